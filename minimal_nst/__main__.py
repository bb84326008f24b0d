"""``python -m minimal_nst``."""

import sys

from .cli import main

sys.exit(main())
