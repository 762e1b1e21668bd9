"""Experiments that show what the monitor says about real training runs; read top to bottom."""
