"""Run by MineStudio's interpreter: what its own readers return for every episode of FOLDER, as files in OUT.

minestudio_read.py FOLDER OUT -> {"episodes": {name: frames}, "windows": n, "events": [[episode, frame, value]]};
OUT/<name>.npz holds arrays, OUT/<name>.json the rest.
"""

import contextlib
import io
import json
import random
import sys
from pathlib import Path

import numpy as np


def main(folder, out):
    import minestudio.data.minecraft.callbacks as cb
    from minestudio.data.minecraft.dataset_event import EventKernelManager
    from minestudio.data.minecraft.dataset_raw import RawDataset

    callbacks = [
        cb.ImageKernelCallback(224, 224), cb.ActionKernelCallback(), cb.MetaInfoKernelCallback(),
        cb.SegmentationKernelCallback(224, 224),
    ]  # fmt: skip
    windows = RawDataset([str(folder)], callbacks, win_len=32, split_ratio=1.0, shuffle_episodes=False, verbose=False)
    manager = windows.kernel_manager  # one process can open an LMDB only once
    found = dict(manager.get_episodes_with_length())
    out.mkdir(parents=True)
    for name, length in found.items():
        random.seed(0)  # its choice among masks
        item = manager.read(name, 0, length, 1)
        arrays = {"image": np.asarray(item["image"])}
        arrays |= {f"action/{key}": np.asarray(each) for key, each in item["env_action"].items()}
        arrays |= {f"agent/{key}": np.asarray(each) for key, each in item["agent_action"].items()}
        segmentation = item["segmentation"]
        for key in ("obj_id", "obj_mask", "point", "frame_id", "frame_range"):
            arrays[f"segmentation/{key}"] = np.asarray(segmentation[key])
        np.savez(out / f"{name}.npz", **arrays)
        rest = {"meta_info": item["meta_info"], "event": segmentation["event"]}
        (out / f"{name}.json").write_text(json.dumps(rest, default=lambda each: each.tolist()))
    first = windows[0]
    events = []
    if (folder / "event").is_dir():
        kernel = EventKernelManager([folder / "event"], "minecraft.*", verbose=False)
        items = [
            kernel.get_event_item(each, i)
            for each in kernel.get_event_list()
            for i in range(kernel.get_event_size(each))
        ]
        events = [[str(name), int(frame), int(value)] for name, frame, value in items]
    return {"episodes": found, "windows": len(windows), "window_keys": sorted(first), "events": events}


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        answer = main(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(answer))
