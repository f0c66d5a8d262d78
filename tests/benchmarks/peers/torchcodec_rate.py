"""Run by lerobot's interpreter: frames per CPU second of torchcodec, files from end to end, one thread.

torchcodec_rate.py FOLDER -> {"per_cpu_s": ..}; a decoder is opened per file, as for a chunk
"""

import json
import sys
import time
from pathlib import Path

import torch
from torchcodec.decoders import VideoDecoder


def main(folder):
    torch.set_num_threads(1)
    files, rates = [path.read_bytes() for path in sorted(folder.glob("*.mp4"))], []
    for i in range(6):
        began, frames = time.process_time(), 0
        for content in files:
            decoder = VideoDecoder(content, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate")
            frames += len(decoder.get_frames_in_range(0, len(decoder)).data)
        rates += [frames / (time.process_time() - began)] if i else []
    return {"per_cpu_s": sorted(rates)[2]}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
