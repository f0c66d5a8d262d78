"""In each simulator's environment in the image: what numba compiled when it was built goes where it may be written.

numba wants a cache folder that it can write, the image's is read-only, and compiling anew takes each pod ten seconds of CPU.
"""

import os
import shutil
import tempfile

READY, WANTED = "/opt/sims/numba", os.environ.get("NUMBA_CACHE_DIR", "")
if WANTED and WANTED != READY and os.path.isdir(READY) and not os.path.exists(WANTED):
    try:
        made = os.path.join(tempfile.mkdtemp(dir=os.path.dirname(WANTED)), "numba")
        shutil.copytree(READY, made)
        os.rename(made, WANTED)
    except OSError:  # another guest was faster, or there is no room: numba compiles
        pass
