"""Run by robomimic's interpreter: its own checkpoints, and its own ``policy_from_checkpoint`` acting for some steps.

robomimic_policy.py make FOLDER   writes <case>.pth with its own save_model for every case of golden/robomimic/make.py
robomimic_policy.py act FOLDER    for each <case>.pth and <case>.obs.npz ([T, ...] per key) writes <case>.acted.npz
Chance is switched off on both sides: a mixture gives the mean of its most probable mode, a prior its mean.
"""

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np
import robomimic.utils.file_utils as FileUtils
import robomimic.utils.obs_utils as ObsUtils
import robomimic.utils.torch_utils as TorchUtils
import robomimic.utils.train_utils as TrainUtils
import torch
from robomimic.algo import algo_factory

MAKE = Path(__file__).parents[2] / "golden" / "robomimic" / "make.py"


def make(folder):
    spec = importlib.util.spec_from_file_location("golden_make", MAKE)
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    made = []
    for case in golden.CASES:
        if case.startswith("image") or "goal" in case:
            continue
        torch.manual_seed(len(case))
        config, shapes = golden.configured(case)
        ObsUtils.initialize_obs_utils_with_config(config)
        model = algo_factory("bc", config, shapes, golden.A, torch.device("cpu"))
        stats = None
        if case in ("bc", "bc_rnn_gmm"):  # 0.3.0 cannot normalise stacked frames (its own assertion)
            rng = np.random.default_rng(3)
            with config.values_unlocked():
                config.train.hdf5_normalize_obs = True
            stats = {k: {"mean": rng.normal(size=(1, *s)), "std": rng.random((1, *s)) + 0.5} for k, s in shapes.items()}
        meta = {"ac_dim": golden.A, "all_shapes": shapes, "all_obs_keys": sorted(shapes), "use_images": False}
        env = {"env_name": "Lift", "type": 1, "env_version": "1.4.1", "env_kwargs": {}}
        TrainUtils.save_model(model, config, env, meta, str(folder / f"{case}.pth"), obs_normalization_stats=stats)
        made.append(case)
    return {"cases": made}


def act(folder):
    mixture = torch.distributions.MixtureSameFamily

    def mode(self, sample_shape=()):
        base, logits = self.component_distribution.base_dist.loc, self.mixture_distribution.logits
        chosen = logits.argmax(-1)[..., None, None].expand(*logits.shape[:-1], 1, base.shape[-1])
        return base.gather(-2, chosen).squeeze(-2)

    mixture.sample = mode
    done = []
    for path in sorted(folder.glob("*.obs.npz")):
        case = path.name.removesuffix(".obs.npz")
        policy, _ = FileUtils.policy_from_checkpoint(ckpt_path=str(folder / f"{case}.pth"), device=torch.device("cpu"))
        stack = policy.policy.global_config.train.frame_stack
        observations = dict(np.load(path))
        policy.start_episode()
        acted = []
        for step in range(len(next(iter(observations.values())))):
            if stack > 1:  # as its FrameStackWrapper: copies of the first one at the start
                rows = [max(0, step - stack + 1 + i) for i in range(stack)]
                now = {key: values[rows] for key, values in observations.items()}
            else:
                now = {key: values[step] for key, values in observations.items()}
            acted.append(without_chance(policy, now))
        np.savez(folder / f"{case}.acted.npz", np.stack(acted))
        done.append(case)
    return {"cases": done}


def without_chance(policy, now):
    if type(policy.policy).__name__ != "BC_VAE":
        return policy(now)
    draw, spread = torch.randn, TorchUtils.reparameterize
    torch.randn = lambda *sizes, **kwargs: draw(*sizes, **kwargs) * 0
    TorchUtils.reparameterize = lambda mu, logvar: mu
    try:
        return policy(now)
    finally:
        torch.randn, TorchUtils.reparameterize = draw, spread


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        answer = {"make": make, "act": act}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(answer))
