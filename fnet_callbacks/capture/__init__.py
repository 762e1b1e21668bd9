"""From a model and its data to ``[S, N]``: layers, units, inputs, one isolated forward pass."""
