"""From a model and its data to ``[S, N]``: which layers, which units, which inputs, one isolated forward pass."""
