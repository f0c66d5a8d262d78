"""Run by robomimic's interpreter: open FILE with its own dataset class, train its own BC on it, say what came out.

robomimic_bc.py FILE EPOCHS -> {"items", "demos_train", "demos_valid", "env_name", "first_loss", "last_loss", "seconds"}
"""

import contextlib
import io
import json
import sys
import time

import h5py
import numpy as np
import robomimic
import robomimic.utils.env_utils as EnvUtils
import robomimic.utils.file_utils as FileUtils
import robomimic.utils.obs_utils as ObsUtils
import robomimic.utils.torch_utils as TorchUtils
import robomimic.utils.train_utils as TrainUtils
import torch
from robomimic.algo import algo_factory
from robomimic.config import config_factory
from torch.utils.data import DataLoader


def main(path, epochs):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    config = config_factory("bc")
    with h5py.File(path) as file:
        keys = sorted(k for k in file["data/demo_0/obs"] if file[f"data/demo_0/obs/{k}"].ndim == 2)
    with config.values_unlocked():
        config.train.data = path
        config.observation.modalities.obs.low_dim = keys
        config.train.hdf5_filter_key = "train"
        config.train.hdf5_validation_filter_key = "valid"
        config.experiment.validate = True
        config.train.num_epochs = epochs
    config.lock()
    ObsUtils.initialize_obs_utils_with_config(config)
    env_meta = FileUtils.get_env_metadata_from_dataset(path)
    shape = FileUtils.get_shape_metadata_from_dataset(path, all_obs_keys=config.all_obs_keys)
    train, valid = TrainUtils.load_data_for_training(config, obs_keys=shape["all_obs_keys"])
    model = algo_factory("bc", config, shape["all_shapes"], shape["ac_dim"], TorchUtils.get_torch_device(False))
    loader = DataLoader(train, batch_size=100, shuffle=True, drop_last=True)
    losses = []
    for epoch in range(1, epochs + 1):
        log = TrainUtils.run_epoch(model=model, data_loader=loader, epoch=epoch, num_steps=None)
        losses.append(float(log["Loss"]))
    return {
        "version": robomimic.__version__,
        "env_type": int(EnvUtils.get_env_type(env_meta=env_meta)),
        "env_name": env_meta["env_name"],
        "items": len(train),
        "demos_train": len(train.demos),
        "demos_valid": len(valid.demos),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


if __name__ == "__main__":
    noise = io.StringIO()
    started = time.time()
    with contextlib.redirect_stdout(noise):
        answer = main(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(answer | {"seconds": round(time.time() - started, 1)}))
