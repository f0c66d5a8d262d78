"""Run by robomimic's interpreter: train its own policy from a JSON on a file, save its own checkpoint.

robomimic_train.py CONFIG.json FILE.hdf5 OUT.pth -> {"losses": [...], "step_s": median CPU seconds of a step, "class": ...}
"""

import contextlib
import io
import json
import statistics
import sys
import time

import numpy as np
import robomimic
import robomimic.utils.file_utils as FileUtils
import robomimic.utils.obs_utils as ObsUtils
import robomimic.utils.train_utils as TrainUtils
import torch
from robomimic.algo import algo_factory
from robomimic.config import config_factory
from torch.utils.data import DataLoader


def main(config_path, file, output):
    torch.set_num_threads(1)
    with open(config_path) as text:
        given = json.load(text)
    config = config_factory(given["algo_name"])
    with config.values_unlocked():
        config.update(given)
        config.train.data = file
    config.lock()
    np.random.seed(config.train.seed)
    torch.manual_seed(config.train.seed)
    ObsUtils.initialize_obs_utils_with_config(config)
    env_meta = FileUtils.get_env_metadata_from_dataset(file)
    shape = FileUtils.get_shape_metadata_from_dataset(file, all_obs_keys=config.all_obs_keys)
    train, _ = TrainUtils.load_data_for_training(config, obs_keys=shape["all_obs_keys"])
    model = algo_factory("bc", config, shape["all_shapes"], shape["ac_dim"], torch.device("cpu"))
    stats = train.get_obs_normalization_stats() if config.train.hdf5_normalize_obs else None
    loader = DataLoader(train, batch_size=config.train.batch_size, shuffle=True, drop_last=True)
    losses, seconds = [], []
    steps = config.experiment.epoch_every_n_steps
    for epoch in range(1, config.train.num_epochs + 1):
        began = time.process_time()
        log = TrainUtils.run_epoch(model=model, data_loader=loader, epoch=epoch, num_steps=steps)
        seconds.append((time.process_time() - began) / steps)
        model.on_epoch_end(epoch)
        losses.append(float(log["Loss"]))
    TrainUtils.save_model(model, config, env_meta, shape, output, obs_normalization_stats=stats)
    return {
        "version": robomimic.__version__,
        "class": type(model).__name__,
        "losses": losses,
        "step_s": statistics.median(seconds),
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        answer = main(*sys.argv[1:4])
    print(json.dumps(answer))
