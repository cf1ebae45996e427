"""See `tests.clients.schedules`."""

import sys

from tests.clients.schedules import main

if __name__ == "__main__":
    sys.exit(main())
