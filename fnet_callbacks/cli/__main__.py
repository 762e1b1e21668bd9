"""``python -m fnet_callbacks.cli``."""

import sys

from fnet_callbacks.cli import main

sys.exit(main())
