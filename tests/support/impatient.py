"""imagewizard with little patience for a cluster that is lost: `python -m tests.support.impatient submit …`."""

import sys

from imagewizard.distributed import job_server
from jobs.__main__ import main

if __name__ == "__main__":
    job_server.LOST_SECONDS = 3.0
    sys.exit(main())
