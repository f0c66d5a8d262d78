"""Run by robomimic's interpreter: every item of its SequenceDataset over FILE, for some window lengths and masks.

robomimic_items.py FILE [OUT] -> {"items": n, "arrays": n, "digests": {setting: {array: sha256}}}; OUT (.npz) gets the
items of windows of one step, stacked. ``--split FILE`` first makes masks with robomimic's own script.
"""

import contextlib
import hashlib
import io
import json
import sys

import h5py
import numpy as np
import robomimic.utils.obs_utils as ObsUtils
from robomimic.scripts.split_train_val import split_train_val_from_hdf5
from robomimic.utils.dataset import SequenceDataset

SETTINGS = {"one": (1, 1), "stack": (3, 4)}


def main(path, out):
    with h5py.File(path) as file:
        first = file["data"][sorted(file["data"])[0]]
        obs = sorted(first["obs"])
        images = [key for key in obs if first[f"obs/{key}"].ndim == 4]
        has_next = "next_obs" in first
        keys = [key for key in ("actions", "rewards", "dones", "states") if key in first]
    low_dim = [key for key in obs if key not in images]
    ObsUtils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": low_dim, "rgb": images}})
    digests, num, kept = {}, 0, {}
    for name, (stack, length) in SETTINGS.items():
        for mask in (None, "train", "valid"):
            dataset = SequenceDataset(
                path, obs, keys, frame_stack=stack, seq_length=length, pad_frame_stack=True, pad_seq_length=True,
                load_next_obs=has_next, hdf5_cache_mode=None, filter_by_attribute=mask,
            )  # fmt: skip
            items = [dataset[i] for i in range(len(dataset))]
            num += len(items)
            arrays = {key: np.stack([item[key] for item in items]) for key in keys}
            for group in ("obs", "next_obs") if has_next else ("obs",):
                arrays |= {f"{group}/{key}": np.stack([item[group][key] for item in items]) for key in obs}
            digests[f"{name}/{mask}"] = {
                key: hashlib.sha256(str(each.dtype).encode() + np.ascontiguousarray(each).tobytes()).hexdigest()
                for key, each in arrays.items()
            }
            if name == "one" and mask is None:
                kept = {key: each[:, 0] for key, each in arrays.items() if each.ndim > 1}
    if out:
        np.savez(out, **kept)
    return {"items": num, "arrays": sum(map(len, digests.values())), "digests": digests}


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        arguments = sys.argv[1:]
        if arguments[0] == "--split":
            arguments = arguments[1:]
            np.random.seed(0)
            split_train_val_from_hdf5(arguments[0], val_ratio=0.25)
        answer = main(arguments[0], arguments[1] if len(arguments) > 1 else "")
    print(json.dumps(answer))
