"""``python -m tendon.train.distributed.torchrun_process PARENT ...``: torchrun that ends with the process that launched it.

A launcher that is killed can tell nobody. The kernel tells torchrun with SIGTERM (Linux only), which tells its ranks; a
killed torchrun's ranks are told the same way. They save and leave with 75. Started by launch.py.
"""

from __future__ import annotations

import os
import sys

from tendon.fork_server import stop_with_parent
from tendon.train.distributed.trial_process import STOPPED

AGENT = "TENDON_TORCHRUN"  # the process id of torchrun, for its ranks

if __name__ == "__main__":
    if not stop_with_parent(int(sys.argv.pop(1))):
        os._exit(STOPPED)
    os.environ[AGENT] = str(os.getpid())
    from torch.distributed.run import main

    main()
