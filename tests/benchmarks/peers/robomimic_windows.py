"""Run by robomimic's interpreter: windows of its SequenceDataset, as values or as a rate.

robomimic_windows.py values FILE OUT CASES       -> OUT: npz, one array per case and key, items in order
robomimic_windows.py rate FILE FRAME_STACK SEQ_LENGTH CACHE KEYS [image] -> {"per_cpu_s": windows per second of CPU time}
"""

import contextlib
import io
import json
import sys
import time

import numpy as np
import robomimic.utils.obs_utils as ObsUtils
import torch
from robomimic.utils.dataset import SequenceDataset


def open_set(path, keys, frame_stack, seq_length, cache, pad_begin=True, pad_end=True, image=False):
    with contextlib.redirect_stdout(io.StringIO()):
        kinds = {
            "low_dim": [k for k in keys if not k.endswith("_image")],
            "rgb": [k for k in keys if k.endswith("_image")],
        }
        ObsUtils.initialize_obs_utils_with_obs_specs({"obs": kinds})
        return SequenceDataset(
            path,
            keys,
            ["actions"],
            frame_stack=frame_stack,
            seq_length=seq_length,
            pad_frame_stack=pad_begin,
            pad_seq_length=pad_end,
            get_pad_mask=True,
            hdf5_cache_mode=cache,
            load_next_obs=False,
        )


def values(path, out, cases):
    found = {}
    for i, (frame_stack, seq_length, pad_begin, pad_end) in enumerate(json.loads(cases)):
        items = open_set(path, ["object", "robot0_eef_pos"], frame_stack, seq_length, "low_dim", pad_begin, pad_end)
        every = [items[n] for n in range(len(items))]
        found[f"{i}/object"] = np.stack([item["obs"]["object"] for item in every])
        found[f"{i}/actions"] = np.stack([item["actions"] for item in every])
        found[f"{i}/mask"] = np.stack([item["pad_mask"][:, 0] for item in every])
    np.savez(out, **found)
    return {"cases": len(found) // 3}


def rate(path, frame_stack, seq_length, cache, keys):
    torch.set_num_threads(1)
    items = open_set(path, keys.split(","), int(frame_stack), int(seq_length), None if cache == "null" else cache)
    batches = torch.utils.data.DataLoader(items, batch_size=100, shuffle=True, drop_last=True)
    rates = []
    for _ in range(3):
        taken = iter(batches)
        next(taken)
        began, count = time.process_time(), 0
        for _ in taken:
            count += 100
            if time.process_time() - began > 1.5:
                break
        rates.append(count / (time.process_time() - began))
    return {"per_cpu_s": sorted(rates)[1]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"values": values, "rate": rate}[sys.argv[1]](*sys.argv[2:])) + "\n")
