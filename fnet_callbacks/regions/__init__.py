"""The linear regions of piecewise-linear networks: activation patterns, the affine map on each, their borders."""
