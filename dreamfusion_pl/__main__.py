"""``python -m dreamfusion_pl``."""

import sys

from dreamfusion_pl.cli import main

if __name__ == "__main__":
    sys.exit(main())
