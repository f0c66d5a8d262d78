"""Writes demonstrations of the crane as one HDF5 file: `python record.py crane.hdf5 40`. Your robot's log goes the same way."""

import json
import sys

import h5py
import numpy as np
from crane import Adapter

FPS = 10


def drive(crane):
    """What a person at the joystick would do; here a controller with a shaky hand."""
    push = 3.0 * (crane.mark - crane.position) - 1.5 * crane.velocity
    return np.clip([push + 0.05 * np.random.default_rng(int(1e6 * abs(crane.position))).standard_normal()], -1, 1)


def main(path, num_episodes):
    crane = Adapter()
    crane.make("Crane", {}, FPS, ("side",), (48, 64))
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Crane", "type": 2, "env_kwargs": {"control_freq": FPS}})
        for number in range(num_episodes):
            seen, rows, stopped = crane.reset(number), {}, False
            while not stopped:
                action = drive(crane)
                for key, value in {**seen, "actions": action}.items():
                    rows.setdefault(key, []).append(value)
                seen, _, stopped, _ = crane.step(action)
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = len(rows["actions"])
            demo["actions"] = np.array(rows.pop("actions"))  # [T, 1]
            for key, values in rows.items():
                demo[f"obs/{key}"] = np.array(values)  # numbers [T, D], pictures uint8 [T, H, W, 3]
        names = list(data)
        file["mask/valid"] = np.array(names[:: max(2, num_episodes // 4)], dtype="S")  # held out


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40)
