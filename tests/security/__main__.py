"""See `tests.security.long`."""

import sys

from tests.security.long import main

if __name__ == "__main__":
    sys.exit(main())
