"""How the car moved and what the driver did: clocks, signals, poses."""
