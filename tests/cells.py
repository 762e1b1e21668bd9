"""Whether tests go through the whole of a large table, which takes long, or through a few of its cells."""

import os

EVERY_CELL = bool(os.environ.get("FNET_ALL"))
