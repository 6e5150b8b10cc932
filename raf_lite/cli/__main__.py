"""`python -m raf_lite.cli`, the same as `raf-lite`."""

import sys

from raf_lite.cli import main

sys.exit(main())
