"""``make bench ROWS=train-lerobot-``: a training step of ACT, Diffusion, VQ-BeT and TD-MPC beside LeRobot 0.4.4's own loop.

The same demonstrations of the corrected xArm (from our shards here, from its own v3.0 dataset there, pictures as PNG), first
weights, batch and optimiser; one thread, CPU time, data included, medians by turns. Each row prints LeRobot's network and
optimiser alone too: where that is nearly all of the step, the network is the limit. ``sampling-overhead-``: what a chunk of
Diffusion Policy costs above its network.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from tests.benchmarks import line, peers
from tests.benchmarks.lerobot_results import first_weights
from tests.benchmarks.rows import Skip, row
from tests.benchmarks.train_speed import our_loop

EPISODES = 20
SCRIPT = "lerobot_policy_loop.py"
NUMBERS, PICTURES = "env=xarm_corrected_state", "env=xarm_corrected"
STEPS_LIMIT = 0.85
OVERHEAD, CHUNKS = 0.05, 15


@dataclass(frozen=True)
class Loop:
    """What is trained, for how many steps a round."""

    keys: tuple[str, ...]
    steps: int = 20
    warm_up: int = 5
    rounds: int = 3
    sizes: str = "in small sizes"  # what of LeRobot's own was made smaller


ACT = ("policy=act", "policy.dim_model=128", "policy.n_heads=4", "policy.dim_feedforward=512", "policy.chunk_size=20")
ACT = (*ACT, "policy.n_action_steps=20", "policy.pretrained_backbone_weights=null", "training.batch_size=32")
DIFFUSION = ("policy=diffusion", "policy.down_dims=[64,128]", "training.batch_size=64", "training.lr_warmup_steps=0")
VQBET = ("policy=vqbet", "policy.n_obs_steps=2", "policy.n_action_pred_token=3", "policy.gpt_hidden_dim=128")
VQBET = (*VQBET, "policy.gpt_n_layer=4", "policy.gpt_n_head=4", "policy.gpt_input_dim=128", "policy.gpt_output_dim=128")
VQBET = (*VQBET, "policy.crop_shape=[76,76]", "training.batch_size=8", "training.lr_warmup_steps=0")
TDMPC = ("policy=tdmpc", "policy.mlp_dim=256", "training.batch_size=64")
FULL_ACT = ("policy=act", "policy.pretrained_backbone_weights=null", "training.batch_size=8")
FULL_DIFFUSION = (
    "policy=diffusion",
    "policy.crop_shape=[76,76]",
    "training.batch_size=8",
    "training.lr_warmup_steps=0",
)
LOOPS = {
    "act-full": Loop(
        (PICTURES, *FULL_ACT), 4, 1, sizes="in LeRobot's own sizes (512, chunks of 100), batches of 8 of 84 px"
    ),
    "diffusion-full": Loop(
        (PICTURES, *FULL_DIFFUSION), 3, 1, sizes="in LeRobot's own sizes (512, 1024, 2048), batches of 8, 76 of 84 px"
    ),
    "act": Loop((NUMBERS, *ACT), sizes="small: 128 wide, chunks of 20, numbers only"),
    "act-pictures": Loop(
        (PICTURES, *ACT, "training.batch_size=8"), 6, 2, sizes="small: 128 wide, chunks of 20, batches of 8"
    ),
    "diffusion": Loop((NUMBERS, *DIFFUSION, "policy.crop_shape=[]"), sizes="small: 64 and 128 channels, numbers only"),
    "diffusion-pictures": Loop(
        (PICTURES, *DIFFUSION, "policy.crop_shape=[76,76]", "training.batch_size=8"),
        6,
        2,
        sizes="small: 64 and 128 channels, batches of 8",
    ),
    "vqbet-codes": Loop(
        (PICTURES, *VQBET, "policy.n_vqvae_training_steps=14"), 11, 3, sizes="small: GPT of 4 x 128, batches of 8"
    ),
    "vqbet-pictures": Loop(
        (PICTURES, *VQBET, "policy.n_vqvae_training_steps=2"), 6, 3, sizes="small: GPT of 4 x 128, batches of 8"
    ),
    "tdmpc": Loop((NUMBERS, *TDMPC), 12, 3, sizes="small: 256 wide, numbers only"),
    "tdmpc-pictures": Loop((PICTURES, *TDMPC, "training.batch_size=16"), 8, 2, sizes="small: 256 wide, batches of 16"),
}


@lru_cache(maxsize=1)
def _scratch() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="tendon-speed-")
    _kept.append(folder)
    return Path(folder.name)


_kept: list[Any] = []


@cache
def _dataset(env: str) -> tuple[str, Path]:
    """Demonstrations in a store, and for LeRobot."""
    from tendon.evaluate import sims

    if not sims.installed("xarm_corrected"):
        raise Skip("the simulator is missing: tendon sims install xarm_corrected")
    name = env.removeprefix("env=")
    folder = _scratch() / name
    folder.mkdir()
    uri = f"demo://{name}?episodes={EPISODES}&seed=1"
    line.run("convert", "--source-uri", uri, "--store-uri", folder / "store", "--dataset-name", "demos", cwd=folder)
    dataset = str(next((folder / "store/datasets/demos").iterdir()))
    line.run("export-data", dataset, folder / "exported", "--to", "lerobot-v3.0", cwd=folder)
    return dataset, folder / "exported"


def _ratio(name: str, loop: Loop) -> float:
    import torch

    from tendon.config.compose import compose
    from tendon.data.dataset import open_dataset
    from tendon.data.stats import compute_stats

    torch.set_num_threads(1)
    uri, exported = _dataset(loop.keys[0])
    last = {key.partition("=")[0]: key for key in loop.keys}
    length = [f"training.offline_steps={loop.warm_up + loop.steps}", "training.valid_freq=1000000000"]
    off = ["training.valid_episodes=0", "training.save_checkpoint=false", "training.num_threads=1", "device=cpu"]
    keys = [*last.values(), *length, *off, "data.split=all", f"data.uri={uri}"]
    stats = compute_stats(open_dataset(uri), "all")
    first = first_weights(compose(keys), uri, _scratch() / f"first-{name}")
    config = compose([*keys, f"policy.init_from={first}"])
    ours, theirs, networks = [], [], []
    for _ in range(loop.rounds):
        ours.append(our_loop(config, uri, stats, loop.warm_up, loop.steps))
        given = (str(exported), str(first), str(config.training.batch_size), str(loop.warm_up), str(loop.steps))
        told = peers.ask(peers.lerobot(), SCRIPT, *given)
        theirs.append(float(told["step_s"]))
        networks.append(float(told["update_s"]))
    mine, other, network = (1e3 * statistics.median(values) for values in (ours, theirs, networks))
    print(f"  ours {mine:.1f} ms of CPU a step, theirs {other:.1f}, of which its network and optimiser {network:.1f}")
    return mine / other


def _rows(name: str, loop: Loop) -> None:
    policy = name.removesuffix("-full")
    what = f"CPU time of a training step of {policy} {loop.sizes}, data included, over LeRobot 0.4.4's own loop"

    @row("bench", f"train-lerobot-{name}", what, f"<= {STEPS_LIMIT}")
    def _measure() -> float:
        return _ratio(name, loop)


for _name, _loop in LOOPS.items():
    _rows(_name, _loop)


def _overhead(scheduler: str, steps: int) -> float:
    """CPU time of sampling over that of its network calls, a chunk of each by turns."""
    import torch

    from tendon.config.compose import compose
    from tendon.policies.diffusion.model import Diffusion
    from tendon.policies.registry import make_policy
    from tests.policies.features_of import features_of

    torch.set_num_threads(1)
    torch.manual_seed(0)
    features = features_of({"observation.environment_state": 16, "observation.state": 2, "action": 2})
    keys = [f"policy.noise_scheduler_type={scheduler}", f"policy.num_inference_steps={steps}", "data.uri=x"]
    config = compose(["policy=diffusion_pusht_keypoints", "env=pusht_keypoints", *keys])
    policy = make_policy(config.policy, features).eval()
    assert isinstance(policy, Diffusion)
    seen = {key: torch.randn(1, 2, features[key].shape[-1]) for key in policy.reads}
    noise = torch.randn(1, policy.num_noises, policy.config.horizon, policy.action_dim)
    condition = policy.condition(seen)
    whole, network = [], []
    with torch.no_grad():
        for _ in range(CHUNKS):
            began = time.process_time()
            policy.sample(seen, noise)
            between = time.process_time()
            for step in policy.denoising_steps:
                policy.unet(noise[:, 0], torch.full((1,), step.timestep, dtype=torch.int64), condition)
            whole.append(between - began)
            network.append(time.process_time() - between)
    mine, bare = statistics.median(whole[2:]), statistics.median(network[2:])
    print(f"  a chunk {1e3 * mine:.1f} ms, its {steps} network calls {1e3 * bare:.1f} ms")
    return mine / bare - 1


for _scheduler, _steps in (("DDIM", 10), ("DDPM", 100)):

    @row(
        "bench",
        f"sampling-overhead-{_scheduler.lower()}",
        f"{_scheduler}, {_steps} steps, LeRobot's preset for key points: share of a chunk's time above its network's",
        f"<= {OVERHEAD}",
    )
    def _sampling(scheduler: str = _scheduler, steps: int = _steps) -> float:
        return _overhead(scheduler, steps)
