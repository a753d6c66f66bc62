"""`python -m jobs.bench`, as a cluster runs it."""

import sys

from jobs.bench import main

sys.exit(main())
