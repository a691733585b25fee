"""``python -m mfbench`` is ``mfbench``."""

import sys

from mfbench.cli.main import main

sys.exit(main())
