"""``python -m mfbench`` is ``mfbench``."""

import sys

from mfbench.cli import main

sys.exit(main())
