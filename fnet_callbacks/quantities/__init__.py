"""What can be measured: name, label, definition, range and function of each quantity, declared once."""
