"""`python -m disback_plugin`: the console script, for torchrun and machines without it on PATH."""

import sys

from disback_plugin.cli import main

sys.exit(main())
