"""Functional codes: the finite set of activation patterns that a self-organising map finds in a layer."""
