"""Run by lerobot's interpreter: items of its dataset with delta_timestamps, as values or as a rate.

lerobot_windows.py values FOLDER OUT DELTAS   -> OUT: npz with every key and mask, items in order
lerobot_windows.py rate FOLDER DELTAS         -> {"per_cpu_s": items per second of CPU time}, random order
"""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def values(folder, out, deltas):
    dataset = LeRobotDataset("any/name", root=folder, delta_timestamps=json.loads(deltas))
    wanted = [*json.loads(deltas), *(f"{key}_is_pad" for key in json.loads(deltas)), "episode_index", "frame_index"]
    columns = {key: [] for key in wanted}
    for i in range(len(dataset)):
        item = dataset[i]
        for key in wanted:
            columns[key].append(np.asarray(item[key]))
    np.savez(out, **{key: np.stack(each) for key, each in columns.items()})
    return {"items": len(dataset)}


def rate(folder, deltas):
    torch.set_num_threads(1)
    dataset = LeRobotDataset("any/name", root=folder, delta_timestamps=json.loads(deltas))
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    dataset[0]
    rates = []
    for part in np.array_split(order, 3):
        began, count = time.process_time(), 0
        for i in part.tolist():
            dataset[i]
            count += 1
            if time.process_time() - began > 3:
                break
        rates.append(count / (time.process_time() - began))
    return {"per_cpu_s": sorted(rates)[1]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"values": values, "rate": rate}[sys.argv[1]](*sys.argv[2:])) + "\n")
