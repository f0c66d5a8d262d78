"""Run by robomimic's interpreter: CPU seconds per step of its own training loop on FILE, BC 1024x1024, batch 100.

robomimic_loop.py FILE WARM_UP STEPS -> {"version", "step_s", "loss"}
"""

import contextlib
import io
import json
import sys
import time

import robomimic
import robomimic.utils.file_utils as FileUtils
import robomimic.utils.obs_utils as ObsUtils
import robomimic.utils.torch_utils as TorchUtils
import robomimic.utils.train_utils as TrainUtils
import torch
from robomimic.algo import algo_factory
from robomimic.config import config_factory
from torch.utils.data import DataLoader


def main(path, warm_up, steps):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = config_factory("bc")
    with config.values_unlocked():
        config.train.data = path
        config.observation.modalities.obs.low_dim = ["agent_pos", "target_pos"]
        config.train.hdf5_filter_key = "train"
        config.train.hdf5_cache_mode = "all"
    config.lock()
    ObsUtils.initialize_obs_utils_with_config(config)
    shape = FileUtils.get_shape_metadata_from_dataset(path, all_obs_keys=config.all_obs_keys)
    train, _ = TrainUtils.load_data_for_training(config, obs_keys=shape["all_obs_keys"])
    model = algo_factory("bc", config, shape["all_shapes"], shape["ac_dim"], TorchUtils.get_torch_device(False))
    loader = DataLoader(train, batch_size=100, shuffle=True, drop_last=True)
    torch.set_num_threads(1)
    TrainUtils.run_epoch(model=model, data_loader=loader, epoch=1, num_steps=warm_up)
    began = time.process_time()
    log = TrainUtils.run_epoch(model=model, data_loader=loader, epoch=2, num_steps=steps)
    seconds = time.process_time() - began
    return {"version": robomimic.__version__, "step_s": seconds / steps, "loss": float(log["Loss"])}


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        answer = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(answer))
