"""Run by MineStudio's interpreter: frames per CPU second of its do_merge, windows of 128 out of chunks of 32 frames.

minestudio_merge.py FOLDER -> {"per_cpu_s": ..}; FOLDER holds mp4 files of 32 frames, four to a window
"""

import json
import sys
import time
from pathlib import Path


def main(folder):
    from minestudio.data.minecraft.callbacks import ImageKernelCallback

    chunks = [path.read_bytes() for path in sorted(folder.glob("*.mp4"))]
    windows = [chunks[i : i + 4] for i in range(0, len(chunks) - 3, 4)]
    kernel, rates = ImageKernelCallback(224, 224), []
    kernel.do_merge(windows[0])
    for _ in range(5):
        began = time.process_time()
        frames = sum(len(kernel.do_merge(window)) for window in windows)
        rates.append(frames / (time.process_time() - began))
    return {"per_cpu_s": sorted(rates)[2]}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
