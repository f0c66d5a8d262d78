"""LeRobot 0.4.4's own train_config.json of each policy: `python make_train_configs.py` in an environment with lerobot 0.4.4."""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import draccus
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.envs.configs import AlohaEnv, PushtEnv
from lerobot.policies.factory import make_policy_config

HERE = Path(__file__).resolve().parent


def main() -> None:
    made = {}
    for name, env in (("act", AlohaEnv()), ("diffusion", PushtEnv()), ("vqbet", PushtEnv()), ("tdmpc", None)):
        policy = make_policy_config(name, device="cpu", push_to_hub=False)
        config = TrainPipelineConfig(dataset=DatasetConfig("lerobot/pusht", root="data"), env=env, policy=policy)
        config.output_dir = Path("outputs")
        config.optimizer, config.scheduler = policy.get_optimizer_preset(), policy.get_scheduler_preset()
        made[name] = draccus.encode(config)
        made[name]["dataset"]["root"] = "data"
    (HERE / "train_configs.json").write_text(json.dumps(made, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
