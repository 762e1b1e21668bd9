"""The training loops that the engine runs in; each driver knows one of them."""
