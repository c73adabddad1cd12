"""`python -m fastrnn`: the command line."""

import sys

from fastrnn.cli import main

sys.exit(main())
