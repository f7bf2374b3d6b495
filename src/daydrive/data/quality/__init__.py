"""What is in a store, what is damaged, and what is wrong with it."""
