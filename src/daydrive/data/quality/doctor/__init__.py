"""What is wrong with a store: each room examines one kind of fault and says what, where, how large, and the fix."""
