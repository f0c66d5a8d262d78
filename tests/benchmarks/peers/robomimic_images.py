"""Run by robomimic's interpreter: CPU seconds per step of its own training loop on the camera of FILE, BC, ResNet18.

robomimic_images.py FILE CAMERA BATCH WARM_UP STEPS -> {"version", "step_s", "loss"}
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


def main(path, camera, batch, warm_up, steps):
    torch.manual_seed(0)
    config = config_factory("bc")
    with config.values_unlocked():
        config.train.data = path
        config.observation.modalities.obs.low_dim = ["agent_pos"]
        config.observation.modalities.obs.rgb = [camera]
        config.observation.encoder.rgb.core_class = "VisualCore"
        config.observation.encoder.rgb.core_kwargs = {
            "feature_dimension": 64,
            "backbone_class": "ResNet18Conv",
            "backbone_kwargs": {"pretrained": False, "input_coord_conv": False},
            "pool_class": "SpatialSoftmax",
            "pool_kwargs": {"num_kp": 32, "learnable_temperature": False, "temperature": 1.0, "noise_std": 0.0},
        }
        config.observation.encoder.rgb.obs_randomizer_class = "CropRandomizer"
        config.observation.encoder.rgb.obs_randomizer_kwargs = {"crop_height": 76, "crop_width": 76}
        config.train.hdf5_filter_key = "train"
        config.train.hdf5_cache_mode = "all"
    config.lock()
    ObsUtils.initialize_obs_utils_with_config(config)
    shape = FileUtils.get_shape_metadata_from_dataset(path, all_obs_keys=config.all_obs_keys)
    train, _ = TrainUtils.load_data_for_training(config, obs_keys=shape["all_obs_keys"])
    model = algo_factory("bc", config, shape["all_shapes"], shape["ac_dim"], TorchUtils.get_torch_device(False))
    loader = DataLoader(train, batch_size=batch, shuffle=True, drop_last=True)
    torch.set_num_threads(1)
    TrainUtils.run_epoch(model=model, data_loader=loader, epoch=1, num_steps=warm_up)
    began = time.process_time()
    log = TrainUtils.run_epoch(model=model, data_loader=loader, epoch=2, num_steps=steps)
    return {
        "version": robomimic.__version__,
        "step_s": (time.process_time() - began) / steps,
        "loss": float(log["Loss"]),
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        answer = main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
    print(json.dumps(answer))
