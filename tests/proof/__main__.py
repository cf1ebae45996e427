"""See `tests.proof.long`."""

import sys

from tests.proof.long import main

if __name__ == "__main__":
    sys.exit(main())
