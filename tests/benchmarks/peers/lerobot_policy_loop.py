"""Run by lerobot's interpreter: CPU seconds per step of its own training of a policy, data included.

lerobot_policy_loop.py DATASET POLICY BATCH WARM_UP STEPS -> {"step_s", "update_s", "loss"}; POLICY: a pretrained_model folder.
Dataset with its windows, sampler, DataLoader (in this process: the cheapest in CPU time), processors, optimiser and
update_policy, in the order of its lerobot_train.py; update_s is what the network and the optimiser take of a step.
"""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "true"

import torch
from accelerate import Accelerator
from lerobot.configs.default import DatasetConfig
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets.factory import make_dataset
from lerobot.datasets.sampler import EpisodeAwareSampler
from lerobot.datasets.utils import cycle
from lerobot.optim.factory import make_optimizer_and_scheduler
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.scripts.lerobot_train import update_policy
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker


def main(root, folder, batch, warm_up, steps):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path = folder
    training = TrainPipelineConfig(dataset=DatasetConfig("any/name", root=root), policy=config, batch_size=batch)
    training.optimizer, training.scheduler = config.get_optimizer_preset(), config.get_scheduler_preset()
    dataset = make_dataset(training)
    policy = make_policy(cfg=config, ds_meta=dataset.meta)
    before, _ = make_pre_post_processors(config, pretrained_path=folder)
    optimizer, schedule = make_optimizer_and_scheduler(training, policy)
    sampler = None
    if hasattr(config, "drop_n_last_frames"):
        episodes = dataset.meta.episodes
        sampler = EpisodeAwareSampler(
            episodes["dataset_from_index"],
            episodes["dataset_to_index"],
            episode_indices_to_use=dataset.episodes,
            drop_n_last_frames=config.drop_n_last_frames,
            shuffle=True,
        )
    loader = torch.utils.data.DataLoader(
        dataset, num_workers=0, batch_size=batch, shuffle=sampler is None, sampler=sampler
    )
    accelerator = Accelerator(step_scheduler_with_optimizer=False, cpu=True)
    policy, optimizer, loader, schedule = accelerator.prepare(policy, optimizer, loader, schedule)
    torch.set_num_threads(1)
    batches = cycle(loader)
    policy.train()
    meters = {name: AverageMeter(name, ":.3f") for name in ("loss", "grad_norm", "lr", "update_s", "dataloading_s")}
    tracker = MetricsTracker(batch, dataset.num_frames, dataset.num_episodes, meters, accelerator=accelerator)
    updates = 0.0

    def one_step():
        nonlocal updates
        started = time.perf_counter()
        values = before(next(batches))
        tracker.dataloading_s = time.perf_counter() - started
        began = time.process_time()
        clip = training.optimizer.grad_clip_norm
        update_policy(tracker, policy, values, optimizer, clip, accelerator=accelerator, lr_scheduler=schedule)
        updates += time.process_time() - began
        tracker.step()

    for _ in range(warm_up):
        one_step()
    updates, began = 0.0, time.process_time()
    for _ in range(steps):
        one_step()
    seconds = time.process_time() - began
    return {"step_s": seconds / steps, "update_s": updates / steps, "loss": float(meters["loss"].val)}


if __name__ == "__main__":
    answer = main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
    sys.stdout.write(json.dumps(answer) + "\n")
