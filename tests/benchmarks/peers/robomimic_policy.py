"""Run by robomimic's interpreter: its own checkpoints, and its own ``policy_from_checkpoint`` acting for some steps.

robomimic_policy.py make FOLDER [images]   <case>.pth by its own save_model and <case>.obs.npz, for the cases of
golden/robomimic/make.py without cameras, or with them; observations are [T, ...] per key, goals "goal/<key>", images bytes [T, H, W, C]
robomimic_policy.py act FOLDER   for each <case>.pth and <case>.obs.npz writes <case>.acted.npz
Chance is switched off on both sides: a mixture gives the mean of its most probable mode, a prior its mean.
"""

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np
import robomimic
import robomimic.utils.file_utils as FileUtils
import robomimic.utils.obs_utils as ObsUtils
import robomimic.utils.torch_utils as TorchUtils
import robomimic.utils.train_utils as TrainUtils
import torch
from robomimic.algo import algo_factory

MAKE = Path(__file__).parents[2] / "golden" / "robomimic" / "make.py"


STEPS = 50


def make(folder, group="numbers"):
    spec = importlib.util.spec_from_file_location("golden_make", MAKE)
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    made = []
    for case in golden.CASES:
        if case.startswith("image") != (group == "images") or case == "image_bc_resnet34":  # it has no such class
            continue
        if "transformer" in case and robomimic.__version__ < "0.3":
            continue
        torch.manual_seed(len(case))
        config, shapes = golden.configured(case)
        ObsUtils.initialize_obs_utils_with_config(config)
        model = algo_factory("bc", config, shapes, golden.A, torch.device("cpu"))
        stats, rng, more = None, np.random.default_rng(3), {}
        late = robomimic.__version__ >= "0.5"
        words = ("offset", "scale") if late else ("mean", "std")
        if case in ("bc", "bc_rnn_gmm"):  # 0.3.0 cannot normalise stacked frames (its own assertion)
            with config.values_unlocked():
                config.train.hdf5_normalize_obs = True
            stats = {
                k: dict(zip(words, (rng.normal(size=(1, *s)), rng.random((1, *s)) + 0.5), strict=True))
                for k, s in shapes.items()
            }
        if late:
            offset, scale = np.zeros((1, golden.A)), np.ones((1, golden.A))
            if case == "bc_gmm":
                offset, scale = rng.normal(size=(1, golden.A)), rng.random((1, golden.A)) + 0.5
            more = {"action_normalization_stats": {"actions": {"offset": offset, "scale": scale}}}
            more["variable_state"] = {"epoch": 3, "best_return": {"Lift": np.float64(0.5)}}
        meta = {"ac_dim": golden.A, "all_shapes": shapes, "all_obs_keys": sorted(shapes), "use_images": False}
        env = {"env_name": "Lift", "type": 1, "env_version": "1.4.1", "env_kwargs": {}}
        TrainUtils.save_model(
            model, config, env, meta, str(folder / f"{case}.pth"), obs_normalization_stats=stats, **more
        )
        arrays = {key: seen(rng, shape) for key, shape in shapes.items()}
        arrays |= {f"goal/{key}": seen(rng, shapes[key])[:1] for key in config.observation.modalities.goal.low_dim}
        np.savez(folder / f"{case}.obs.npz", **arrays)
        made.append(case)
    return {"cases": made}


def seen(rng, shape):
    if len(shape) == 3:
        return rng.integers(0, 256, (STEPS, *shape[1:], shape[0]), np.uint8)
    return rng.normal(size=(STEPS, *shape)).astype(np.float32)


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
        train = policy.policy.global_config.train
        stack = train.frame_stack if "frame_stack" in train else 1
        given = {key: processed(values) for key, values in np.load(path).items()}
        goal = {key.removeprefix("goal/"): values[0] for key, values in given.items() if key.startswith("goal/")}
        observations = {key: values for key, values in given.items() if not key.startswith("goal/")}
        policy.start_episode()
        acted = []
        for step in range(len(next(iter(observations.values())))):
            if stack > 1:  # as its FrameStackWrapper: copies of the first one at the start
                rows = [max(0, step - stack + 1 + i) for i in range(stack)]
                now = {key: values[rows] for key, values in observations.items()}
            else:
                now = {key: values[step] for key, values in observations.items()}
            acted.append(without_chance(policy, now, goal or None))
        np.savez(folder / f"{case}.acted.npz", np.stack(acted))
        done.append(case)
    return {"cases": done}


def processed(values):
    """Bytes as its environments give them to a policy: channels first, in [0, 1]."""
    return ObsUtils.process_frame(values, values.shape[-1], 255.0) if values.dtype == np.uint8 else values


def without_chance(policy, now, goal):
    if type(policy.policy).__name__ != "BC_VAE":
        return policy(now, goal)
    draw, spread = torch.randn, TorchUtils.reparameterize
    torch.randn = lambda *sizes, **kwargs: draw(*sizes, **kwargs) * 0
    TorchUtils.reparameterize = lambda mu, logvar: mu
    try:
        return policy(now, goal)
    finally:
        torch.randn, TorchUtils.reparameterize = draw, spread


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        answer = {"make": make, "act": act}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
    print(json.dumps(answer))
