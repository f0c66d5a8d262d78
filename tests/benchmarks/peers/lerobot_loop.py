"""Run by lerobot's interpreter: CPU seconds per step of its own training loop on FOLDER, an MLP 1024x1024, batch 100.

lerobot_loop.py FOLDER WARM_UP STEPS -> {"version", "step_s", "loss"}
Its dataset, DataLoader (in this process: the cheapest in CPU time), cycle, processors, accelerator, tracker and
update_policy, in the order of its lerobot_train.py.
"""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "true"

import lerobot
import torch
from accelerate import Accelerator
from lerobot.configs.types import FeatureType, NormalizationMode
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.utils import cycle, dataset_to_policy_features
from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    NormalizerProcessorStep,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
)
from lerobot.scripts.lerobot_train import update_policy
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker


class Mlp(torch.nn.Module):
    """The network of the other loops."""

    def __init__(self, keys, dims, action_dim):
        super().__init__()
        self.keys = keys
        layers = [torch.nn.Linear(sum(dims), 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 1024), torch.nn.ReLU()]
        self.net = torch.nn.Sequential(*layers, torch.nn.Linear(1024, action_dim), torch.nn.Tanh())

    def forward(self, batch):
        seen = torch.cat([batch[key].float() for key in self.keys], -1)
        loss = torch.nn.functional.mse_loss(self.net(seen), batch["action"].float())
        return loss, {"l2_loss": loss.item()}


def main(folder, warm_up, steps):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    wanted = ("observation.agent_pos", "observation.target_pos")
    dataset = LeRobotDataset("any/name", root=folder)
    features = dataset_to_policy_features(dataset.features)
    inputs = {key: features[key] for key in wanted}
    policy = Mlp(wanted, [inputs[key].shape[0] for key in wanted], features["action"].shape[0])
    modes = {FeatureType.STATE: NormalizationMode.MEAN_STD, FeatureType.ENV: NormalizationMode.MEAN_STD}
    normalize = NormalizerProcessorStep(features=inputs, norm_map=modes, stats=dataset.meta.stats, device="cpu")
    before = [RenameObservationsProcessorStep(rename_map={}), AddBatchDimensionProcessorStep()]
    preprocessor = PolicyProcessorPipeline(steps=[*before, DeviceProcessorStep(device="cpu"), normalize])
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-4)
    loader = torch.utils.data.DataLoader(dataset, num_workers=0, batch_size=100, shuffle=True, drop_last=False)
    accelerator = Accelerator(step_scheduler_with_optimizer=False, cpu=True)
    policy, optimizer, loader = accelerator.prepare(policy, optimizer, loader)
    torch.set_num_threads(1)
    batches = cycle(loader)
    meters = {name: AverageMeter(name, ":.3f") for name in ("loss", "grad_norm", "lr", "update_s", "dataloading_s")}
    tracker = MetricsTracker(100, dataset.num_frames, dataset.num_episodes, meters, accelerator=accelerator)

    def one_step():
        started = time.perf_counter()
        batch = preprocessor(next(batches))
        tracker.dataloading_s = time.perf_counter() - started
        update_policy(tracker, policy, batch, optimizer, 0.0, accelerator=accelerator)
        tracker.step()

    for _ in range(warm_up):
        one_step()
    began = time.process_time()
    for _ in range(steps):
        one_step()
    seconds = time.process_time() - began
    return {"version": lerobot.__version__, "step_s": seconds / steps, "loss": float(meters["loss"].val)}


if __name__ == "__main__":
    answer = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(json.dumps(answer) + "\n")
