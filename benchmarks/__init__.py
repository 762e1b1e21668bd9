"""What things cost: programs that print tables and write JSON; nothing here asserts a time."""
