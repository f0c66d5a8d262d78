"""Four policies trained and rolled out from nothing beside LeRobot 0.4.4: same demonstrations, first weights, batches and steps.

``python -m tests.benchmarks results lerobot-[CASE]`` records the scripted demonstrations, converts them, exports them to LeRobot's
v3.0, writes the weights that both begin with, trains ours (``tendon train``) and theirs (its own script), and rolls out both in
our guest on the same unseen seeds. Everything is kept in build/lerobot: a second call goes on where the first one stopped,
with a training too. CASE.json has what the rows leave out: rates with intervals, rewards, CPU minutes of each part.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tendon.config.digest import digest
from tendon.evaluate.adapters import sim_numerics
from tests.benchmarks import line, peers
from tests.benchmarks.rows import Skip, row

KEPT = Path("build/lerobot")
DATASET = "datasets/*/*/manifest.json"
AT_ONCE = 25  # episodes that are played and kept together
SIDES = ("ours", "theirs")


@dataclass(frozen=True)
class Case:
    """One policy on one task."""

    what: str
    experiment: str  # of conf/experiment
    demonstrations: int
    image_size: tuple[int, int] = ()  # type: ignore[assignment]
    flags: tuple[str, ...] = ()  # LeRobot's, where they are not in its config.json
    episodes: int = 200
    least: float = 0.0  # lower end of the interval of ours
    overrides: tuple[str, ...] = ()
    beside: bool = True  # LeRobot's arm as well


CASES = {
    "pusht": Case(
        "Diffusion on PushT's key points",
        "pusht_diffusion",
        800,
        flags=("--policy.optimizer_lr=1e-3", "--policy.scheduler_warmup_steps=100"),
        overrides=("ema.enable=false", "training.offline_steps=3000", "training.save_freq=1000"),
    ),
    "pusht-moonshot": Case(
        "Diffusion on PushT's key points, our training alone and longer",
        "pusht_diffusion",
        800,
        episodes=500,
        least=0.40,
        overrides=("training.offline_steps=20000", "training.save_freq=5000"),
        beside=False,
    ),
    "pusht-pictures": Case(
        "VQ-BeT on PushT's pictures of 48 px",
        "pusht_vqbet",
        300,
        flags=("--policy.optimizer_lr=3e-4", "--policy.scheduler_warmup_steps=100"),
        overrides=(
            *("policy.n_obs_steps=1", "policy.n_vqvae_training_steps=1000"),
            *("training.offline_steps=4000", "training.batch_size=16"),
        ),
    ),
    "cube": Case(
        "ACT on TransferCube's pose",
        "cube_act_state",
        50,
        flags=("--policy.optimizer_lr=1e-4",),
        overrides=("training.offline_steps=2000",),
    ),
    "cube-pictures": Case(
        "ACT on TransferCube's picture of 96 x 128",
        "cube_act",
        50,
        flags=("--policy.optimizer_lr=1e-4",),
        overrides=("training.offline_steps=2000", "training.batch_size=8"),
    ),
    "xarm": Case(
        "TD-MPC on the corrected xArm",
        "xarm_tdmpc",
        100,
        flags=("--policy.optimizer_lr=1e-3",),
        overrides=("training.offline_steps=2000",),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """Success by seed of both, and the CPU minutes of each part."""

    ours: dict[int, bool]
    theirs: dict[int, bool]
    minutes: dict[str, float]
    highest: dict[str, dict[int, float]]  # rewards by side and seed

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval of ours."""
        from tendon.evaluate.confidence import wilson

        return wilson(sum(self.ours.values()), len(self.ours)).low

    @property
    def p_value(self) -> float:
        """Of "ours is no worse": exact, one side, over the seeds that both played."""
        return _no_worse(self.ours, self.theirs)

    @property
    def p_reward(self) -> float:
        """The same of the highest reward of an episode, by its sign: it tells policies apart that seldom succeed."""
        return _no_worse(self.highest["ours"], self.highest["theirs"])


def _no_worse(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float:
    from tendon.evaluate.confidence import better_exact

    both = ours.keys() & theirs.keys()
    return better_exact(
        sum(theirs[seed] > ours[seed] for seed in both), sum(ours[seed] > theirs[seed] for seed in both)
    )


def first_weights(config: Any, dataset_uri: str, out: Path) -> Path:
    """What both begin with: LeRobot's folder of a policy that has learnt nothing."""
    if not (out / "done").exists():
        import torch

        from tendon.data.dataset import open_dataset
        from tendon.data.stats import compute_stats
        from tendon.policies.registry import make_policy
        from tendon.policies.spec import PolicySpec
        from tendon.train.loop.data_feeds import find_features
        from tendon.train.loop.engine import select_features
        from tendon.weights.formats.lerobot.folder import FORMAT

        stats = compute_stats(open_dataset(dataset_uri), config.data.split)
        torch.manual_seed(config.seed)
        features = select_features(config, stats.features, find_features(dataset_uri))
        policy = make_policy(config.policy, features, stats.features)
        FORMAT.write(policy, PolicySpec(config.policy, features, policy.windows), out, "0.4", {})
        (out / "done").touch()
    return out


@contextmanager
def timed(folder: Path, part: str) -> Iterator[None]:
    """CPU minutes of this process and what it started, added to those of earlier calls."""
    began = line.cpu_seconds()
    try:
        yield
    finally:
        minutes = minutes_of(folder)
        minutes[part] = minutes.get(part, 0.0) + (line.cpu_seconds() - began) / 60
        (folder / "minutes.json").write_text(json.dumps(minutes, indent=1) + "\n")


def minutes_of(folder: Path) -> dict[str, float]:
    """What was timed there."""
    file = folder / "minutes.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


class Arms:
    """What of a case lies in its folder, made where it is missing."""

    demos: Path  # known once the dataset is

    def __init__(self, name: str, case: Case) -> None:
        self.case = case
        config = self.config()
        self.expert = sim_numerics(config.env, expert=True)
        made = digest(asdict(config), case.demonstrations, case.flags, self.expert)  # other settings are another folder
        self.folder = (KEPT / f"{name}-{made[:8]}").absolute()
        self.folder.mkdir(parents=True, exist_ok=True)

    def config(self, dataset_uri: str = "x", *more: str) -> Any:
        """What ours is trained with."""
        from tendon.config.compose import compose

        return compose([*self.keys(dataset_uri), *more])

    def keys(self, dataset_uri: str) -> list[str]:
        """The words of ``tendon train``."""
        once = [f"data.uri={dataset_uri}", "data.split=all", "training.valid_freq=1000000000", "training.num_threads=1"]
        return [f"experiment={self.case.experiment}", *self.case.overrides, *once, "device=cpu"]

    def dataset(self) -> str:
        """The demonstrations, converted; cases of the same ones share them, and what they cost."""
        env = self.config().env
        uri = f"demo://{env.name}?episodes={self.case.demonstrations}&seed=1"
        sizes = [f"env.cameras.{name}.{side}={value}" for name, side, value in self._sizes(env)]
        made = KEPT.absolute() / f"demos-{env.name}-{digest(uri, sizes, self.expert)[:8]}"
        made.mkdir(parents=True, exist_ok=True)
        if not list(made.glob(DATASET)):
            words = [f"env={env.name}", *sizes, "--episodes", self.case.demonstrations, "--seed", 1]
            with timed(made, "demonstrations"):
                line.run("demo-data", *words, "--format", "shards", "-o", made, cwd=self.folder)
        self.demos = made
        return str(next(made.glob(DATASET)).parent)

    def exported(self, dataset_uri: str) -> Path:
        """The same for LeRobot."""
        out = self.folder / "exported"
        if not out.exists():
            line.run("export-data", dataset_uri, out, "--to", "lerobot-v3.0", cwd=self.folder)
        return out

    def ours(self, dataset_uri: str, first: Path) -> Path:
        """The checkpoint of our training."""
        keys = [*self.keys(dataset_uri), f"policy.init_from={first}"]
        with timed(self.folder, "ours"):
            line.run("train", *keys, "--store-uri", self.folder / "ours", cwd=self.folder)
        trial = max((self.folder / "ours/trials").iterdir(), key=lambda path: path.stat().st_mtime)  # of this code
        return trial / f"checkpoints/{self.config().training.offline_steps:06d}"

    def theirs(self, exported: Path, first: Path) -> Path:
        """The folder that LeRobot's script leaves; begun where a killed one stopped."""
        out, training = self.folder / "theirs", self.config().training
        last = out / "checkpoints/last/pretrained_model"
        done = out / f"checkpoints/{training.offline_steps:06d}/pretrained_model"
        flags = [
            *(
                "--dataset.repo_id=any/name",
                f"--dataset.root={exported}",
                f"--output_dir={out}",
                f"--policy.path={first}",
            ),
            *(f"--steps={training.offline_steps}", f"--batch_size={training.batch_size}"),
            *(f"--seed={self.config().seed}", f"--save_freq={training.save_freq}", "--eval_freq=0", "--num_workers=0"),
            *("--log_freq=500", "--policy.push_to_hub=false", "--policy.device=cpu", *self.case.flags),
        ]
        if (last / "train_config.json").exists():
            flags = [f"--config_path={last}/train_config.json", "--resume=true"]
        if not (done / "model.safetensors").exists():
            with timed(self.folder, "theirs"):
                offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
                run = [str(peers.lerobot()), "-W", "ignore", "-m", "lerobot.scripts.lerobot_train", *flags]
                told = subprocess.run(run, env=os.environ | offline, capture_output=True, text=True, check=False)
                if told.returncode:
                    raise RuntimeError(f"lerobot-train ended with {told.returncode}:\n{told.stderr[-3000:]}")
        return done

    def played(self, side: str, policy: Any, episodes: int) -> dict[int, bool]:
        """Success by seed in our guest; every AT_ONCE episodes are kept."""
        import torch

        from tendon import fork_server
        from tendon.evaluate import seeds
        from tendon.evaluate.rollout import evaluate_policy

        torch.set_num_threads(1)
        config = self.config("x", f"eval.batch_size={AT_ONCE}")
        kept, rows = self._kept(side), self._rows(side)
        chosen = seeds.selection(episodes)
        with timed(self.folder, f"rollouts of {side}"), fork_server.nearby():
            for first in range(len(rows), episodes, AT_ONCE):
                results = evaluate_policy(policy, config.env, config.eval, chosen[first : first + AT_ONCE])
                crashed = sum(one.status == "crashed" for one in results)
                if crashed:
                    raise RuntimeError(f"{crashed} of {AT_ONCE} episodes crashed")
                new = [[one.seed, one.status == "success", one.max_reward] for one in results]
                with kept.open("a") as file:
                    file.writelines(json.dumps(one) + "\n" for one in new)
                rows += new
                print(f"  {side}: {sum(one[1] for one in rows)} of {len(rows)} succeed", flush=True)
        return {int(seed): bool(success) for seed, success, _ in rows[:episodes]}

    def highest_rewards(self, side: str) -> dict[int, float]:
        """Of each episode that was played, by seed."""
        return {int(seed): float(reward) for seed, _, reward in self._rows(side)[: self.case.episodes]}

    def minutes(self) -> dict[str, float]:
        """CPU minutes by part."""
        return minutes_of(self.demos) | minutes_of(self.folder)

    def _kept(self, side: str) -> Path:
        return self.folder / f"{side}.jsonl"

    def _rows(self, side: str) -> list[Any]:
        """Seed, success and highest reward of each episode that was played before."""
        kept = self._kept(side)
        return [json.loads(text) for text in kept.read_text().splitlines()] if kept.exists() else []

    def _sizes(self, env: Any) -> Iterator[tuple[str, str, int]]:
        for reading in env.observation:
            name = reading.removesuffix("_image")
            if reading.endswith("_image"):
                yield name, "height", env.cameras[name]["height"]
                yield name, "width", env.cameras[name]["width"]


def demand_simulator(name: str) -> None:
    """Skip where a case's simulator is missing."""
    from tendon.evaluate import sims

    simulator = Arms(name, CASES[name]).config().env.simulator
    if not sims.installed(simulator):
        raise Skip(f"the simulator is missing: tendon sims install {simulator}")


def our_bundle(name: str) -> Path:
    """What our training of a case ends with."""
    demand_simulator(name)
    arms = Arms(name, CASES[name])
    uri, bundle = arms.dataset(), arms.folder / "bundle"
    checkpoint = arms.ours(uri, first_weights(arms.config(uri), uri, arms.folder / "first"))
    line.run("export", "--checkpoint-uri", checkpoint, "--bundle-uri", bundle, cwd=arms.folder)
    return bundle


@cache
def outcome(name: str) -> Outcome:
    """Both arms of a case."""
    from tendon.evaluate.confidence import describe_rate
    from tendon.export.bundle import load_policy
    from tendon.weights.formats.lerobot.folder import FORMAT

    bundle, arms = our_bundle(name), Arms(name, CASES[name])
    uri = arms.dataset()
    played = {"ours": arms.played("ours", load_policy(str(bundle))[0], arms.case.episodes)}
    if arms.case.beside:
        theirs = arms.theirs(arms.exported(uri), arms.folder / "first")
        played["theirs"] = arms.played("theirs", FORMAT.read(theirs).policy, arms.case.episodes)
    highest = {side: arms.highest_rewards(side) for side in played}
    found = Outcome(played["ours"], played.get("theirs", {}), arms.minutes(), highest)
    shown = {side: describe_rate(sum(played[side].values()), len(played[side])) for side in played}
    rewards = {f"mean highest reward, {side}": sum(highest[side].values()) / len(highest[side]) for side in played}
    tests = {"p": found.p_value, "p of rewards": found.p_reward} if arms.case.beside else {}
    text = json.dumps({**shown, **rewards, **tests, "CPU minutes": found.minutes}, indent=1)
    (KEPT / f"{name}.json").write_text(text + "\n")
    print(text, flush=True)
    return found


def _rows(name: str, case: Case) -> None:
    @row(
        "results",
        f"lerobot-{name}-success",
        f"{case.what}: lower 95 % end of ours, {case.episodes} episodes",
        f">= {case.least}",
    )
    def _success() -> float:
        return outcome(name).low

    if case.beside:

        @row(
            "results",
            f"lerobot-{name}-beside",
            f"{case.what}: p of ours being no worse than LeRobot 0.4.4's",
            ">= 0.05",
        )
        def _beside() -> float:
            return outcome(name).p_value

        @row(
            "results",
            f"lerobot-{name}-reward",
            f"{case.what}: the same p of the highest reward of each episode, by its sign",
            ">= 0.05",
        )
        def _reward() -> float:
            return outcome(name).p_reward

        @row("results", f"lerobot-{name}-cost", f"{case.what}: CPU minutes of the dearer training", "<= 45 min")
        def _cost() -> float:
            return max(outcome(name).minutes[side] for side in SIDES)


for _name, _case in CASES.items():
    _rows(_name, _case)


@row("results", "lerobot-pusht-moonshot", "the same, of LeRobot's own published rate", ">= 0.64")
def moonshot() -> float:
    """The same number beside a higher bound."""
    return outcome("pusht-moonshot").low


@row(
    "results",
    "lerobot-pusht-moonshot-cost",
    "the same: CPU minutes of demonstrations, training and 500 episodes (two cores have 240 in 2 h)",
    "<= 240 min",
)
def moonshot_cost() -> float:
    """Ours has no other arm here."""
    minutes: dict[str, float] = outcome("pusht-moonshot").minutes
    return sum(minutes[part] for part in ("demonstrations", "ours", "rollouts of ours"))
