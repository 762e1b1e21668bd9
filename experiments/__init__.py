"""Experiments that show what the monitors say about real training runs; read top to bottom."""
