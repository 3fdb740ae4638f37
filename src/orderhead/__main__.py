"""`python -m orderhead` is the command `orderhead`."""

import sys

from orderhead.cli import main

if __name__ == "__main__":
    sys.exit(main())
