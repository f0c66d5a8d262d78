"""Run by MineStudio's interpreter: frames per CPU second of its RawDataModule, windows of 128 with masks in continuous batches.

minestudio_batches.py FOLDER BATCH -> {"per_cpu_s": .., "frames": ..}; no workers, so that the CPU time is this process's
"""

import contextlib
import io
import json
import sys
import time
import warnings


def main(folder, batch_size):
    import minestudio.data.minecraft.callbacks as cb
    from minestudio.data.minecraft.dataset_raw import RawDataModule, RawDataset

    callbacks = [cb.ImageKernelCallback(224, 224), cb.ActionKernelCallback(), cb.SegmentationKernelCallback(224, 224)]
    params = {
        "dataset_dirs": [folder],
        "modal_kernel_callbacks": callbacks,
        "win_len": 128,
        "split_ratio": 1.0,
        "shuffle_episodes": False,
        "verbose": False,
    }
    module = RawDataModule(params, batch_size=batch_size, episode_continuous_batch=True)
    module.train_dataset = RawDataset(split="train", **params)  # setup() opens every LMDB again for validation
    rates, frames = [], 0
    for _ in range(3):
        began, frames = time.process_time(), 0
        for batch in module.train_dataloader():
            frames += batch["image"].shape[0] * batch["image"].shape[1]
            assert batch["segmentation"]["obj_mask"].shape[-2:] == (224, 224)
        rates.append(frames / (time.process_time() - began))
    return {"per_cpu_s": sorted(rates)[1], "frames": frames}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):
        answer = main(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(answer))
