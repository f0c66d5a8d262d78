"""``make parity PEER=robomimic``, ``make bench``: policies, checkpoints and training beside robomimic 0.3.0."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.benchmarks import peers, robomimic_results
from tests.benchmarks.rows import Skip, row


@lru_cache(maxsize=2)
def fifty_steps(group: str = "numbers") -> dict[str, dict[str, float]]:
    """Per case of robomimic's own checkpoints: how far both act apart over 50 steps, on its file and on ours made of it."""
    from tendon.export.formats.robomimic import export_pth, import_pth

    python, found = peers.robomimic(), {}
    with tempfile.TemporaryDirectory() as scratch:
        theirs, again = Path(scratch, "theirs"), Path(scratch, "ours")
        theirs.mkdir()
        again.mkdir()
        cases = peers.ask(python, "robomimic_policy.py", "make", str(theirs), group)["cases"]
        bit_equal = {}
        for case in cases:
            imported = import_pth(theirs / f"{case}.pth")
            export_pth(imported.policy, imported.info, again / f"{case}.pth", "0.3", foreign=imported.foreign)
            bit_equal[case] = _same_content(theirs / f"{case}.pth", again / f"{case}.pth")
            shutil.copy(theirs / f"{case}.obs.npz", again)
        for folder in (theirs, again):
            peers.ask(python, "robomimic_policy.py", "act", str(folder))
        for case in cases:
            ours = _acted(import_pth(theirs / f"{case}.pth").policy, theirs / f"{case}.obs.npz")
            files = [np.load(folder / f"{case}.acted.npz")["arr_0"] for folder in (theirs, again)]
            distances = [float(np.abs(ours - acted).max()) for acted in files]
            found[case] = {"theirs": distances[0], "ours": distances[1], "lossless": bit_equal[case]}
    return found


def _acted(policy: Any, file: Path) -> np.ndarray:
    """Our actions with chance switched off, through the rollout's own actor."""
    observations = {key.replace("goal/", "goal.observation."): values for key, values in np.load(file).items()}
    import torch

    from tendon.evaluate.rollout import Actor
    from tendon.policies.parts.heads import MixtureHead

    def mode(features: torch.Tensor, noise: Any) -> tuple[torch.Tensor, Any]:
        mixture = policy.head(features)
        chosen = mixture.mean[torch.arange(len(features)), mixture.logits.argmax(-1)]
        return policy.normalize_action.inverse(chosen), noise

    if isinstance(policy.head, MixtureHead):
        policy.choose = mode
    actor = Actor(policy, policy.action_dim)
    actor.reset(1)
    with patch("tendon.policies.bc_vae.draw_normal", lambda noise, n: (torch.zeros(len(noise), n), noise)):
        num_steps = max(map(len, observations.values()))
        steps = [{key: values[step % len(values)] for key, values in observations.items()} for step in range(num_steps)]
        return np.stack([actor.act(step) for step in steps])


def _same_content(first: Path, second: Path) -> float:
    """1 when two checkpoints hold the same tensors and the same values."""
    import json

    import torch

    from tendon.export.formats.robomimic import read_file

    one, other = read_file(first), read_file(second)
    same = set(one) == set(other) and set(one["model"]) == set(other["model"])
    same = same and all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
    same = same and json.loads(one["config"]) == json.loads(other["config"])
    for key in set(one) - {"model", "config", "obs_normalization_stats"}:
        same = same and one[key] == other[key]
    for key, pair in (one.get("obs_normalization_stats") or {}).items():
        for word, value in pair.items():
            same = same and np.array_equal(np.float32(value), np.float32(other["obs_normalization_stats"][key][word]))
    return float(same)


@row(
    "parity",
    "robomimic-pth-in",
    "largest difference of 50 actions, its .pth in tendon beside robomimic itself",
    "<= 1e-5",
)
def pth_in() -> float:
    """All policies, with frame stack and state rules."""
    return max(one["theirs"] for one in fifty_steps().values())


@row(
    "parity",
    "robomimic-pth-out",
    "largest difference of 50 actions, robomimic loading the .pth tendon wrote",
    "<= 1e-5",
)
def pth_out() -> float:
    """Through robomimic's own policy_from_checkpoint."""
    return max(one["ours"] for one in fifty_steps().values())


@row("parity", "robomimic-pth-lossless", "share of robomimic's checkpoints that come back bit for bit", "== 1")
def pth_lossless() -> float:
    """Tensors, doubles, configuration, metadata."""
    cases = fifty_steps()
    return sum(one["lossless"] for one in cases.values()) / len(cases)


@row(
    "parity",
    "robomimic-pth-images",
    "largest difference of 50 actions with cameras and depth, both ways; infinite when a file does not come back bit for bit",
    "<= 1e-5",
)
def pth_images() -> float:
    """BC-GMM, crops, RNN-GMM, Transformer-GMM."""
    if importlib.util.find_spec("torchvision") is None:
        raise Skip("torchvision is not installed (extra vision)")
    cases = fifty_steps("images").values()
    return max(max(one["theirs"], one["ours"]) if one["lossless"] else float("inf") for one in cases)


@row(
    "parity",
    "robomimic-success",
    "smallest p of ours being worse than robomimic's on Lift, equal budget (exact McNemar)",
    ">= 0.05",
)
def success() -> float:
    """BC, BC-RNN-GMM, BC-Transformer-GMM; 1 where ours is not worse. Minutes each, kept in build/robomimic."""
    worst = 1.0
    for algo in robomimic_results.ALGOS:
        _needs_robosuite()
        one = robomimic_results.result(algo, 1)
        if sum(one["ours"]) < sum(one["theirs"]):
            worst = min(worst, robomimic_results.p_value([one]))
    return worst


@row("bench", "robomimic-step", "our step's CPU time beside robomimic's, the slowest of three policies", "<= 0.9 x")
def step_time() -> float:
    """Data loading included, medians over epochs of 50 updates."""
    _needs_robosuite()
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        file, uri = robomimic_results.prepare(Path(scratch))
        for algo in robomimic_results.ALGOS:
            tree = robomimic_results.config_of(algo, 1, epochs=5)
            _, step_s, _ = robomimic_results.ours(tree, uri)
            ratios.append(step_s / robomimic_results.theirs(tree, file, Path(scratch))["step_s"])
    return max(ratios)


def _needs_robosuite() -> None:
    from tendon.evaluate import sims

    if not sims.installed("robosuite"):
        raise Skip("robosuite is not installed: tendon sims install robosuite")


EIGHT = [
    f"bc_rnn_hyper_plr_{lr}_gmm_{gmm}_rnnd_{rnn}"
    for lr in ("0.001", "0.0001")
    for gmm in "tf"
    for rnn in ("400_mlp_1024", "1000_mlp_0")
]


@row(
    "faults",
    "robomimic-sweep",
    "of the seed's 8 experiments as trials of the DAG, one diverging: how many are evaluated",
    "== 7",
)
def sweep_of_eight() -> float:
    """The hyperparameter helper's generator is the pipeline's sweep; its nets are made tiny, its names kept."""
    import json

    from tendon.config.generator import ConfigGenerator
    from tests.benchmarks import line

    base = Path(__file__).parents[1] / "config" / "foreign" / "base.json"
    generator = ConfigGenerator(base)
    for key, value in (("algo.rnn.enabled", True), ("train.seq_length", 10), ("algo.rnn.horizon", 10)):
        generator.add_param(key, "", 0, [value])
    generator.add_param("algo.optim_params.policy.learning_rate.initial", "plr", 1, [1e-3, 1e-4])
    generator.add_param("algo.gmm.enabled", "gmm", 2, [True, False], ["t", "f"])
    generator.add_param("algo.rnn.hidden_dim", "rnnd", 3, [8, 16], ["400", "1000"])
    generator.add_param("algo.actor_layer_dims", "mlp", 3, [[8], []], ["1024", "0"])
    run = generator.pipeline()
    rates = next(entry for entry in run["sweep"] if entry["key"] == "training.lr")
    rates["values"][2] = 3e38  # one of them is made to fail
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "sweep.json").write_text(json.dumps(run["sweep"]))
        small = [
            "env=reach",
            "env.observation=[agent_pos,target_pos]",
            "training.offline_steps=100",
            "training.log_freq=10",
            "training.num_threads=1",
            "device=cpu",
        ]
        small += ["training.save_freq=100", "training.valid_freq=100", "training.batch_size=16"]
        source = ["--source-uri", "demo://reach?episodes=10&seed=1", "--store-uri", folder / "store"]
        counts = ["--episodes", 2, "--confirm-episodes", 2, "--sweep", folder / "sweep.json"]
        line.run("run", *run["config"].split(" "), *small, *source, *counts, cwd=folder)
        (selection,) = (folder / "store" / "runs").glob("*/selection.json")
        outcomes = {one["trial"]: one for one in json.loads(selection.read_text())["outcomes"]}
    assert sorted(outcomes) == sorted(EIGHT), sorted(outcomes)
    dead = [name for name, one in outcomes.items() if one["status"] != "ok"]
    assert dead == [EIGHT[2]], dead
    assert outcomes[EIGHT[2]]["failed_step"] == "train"
    return float(len(outcomes) - len(dead))
