"""``make parity PEER=robomimic``, ``make bench``: policies, checkpoints and training beside robomimic 0.3.0."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.benchmarks import peers
from tests.benchmarks.rows import Skip, row

STEPS = 50
SHAPES = {"object": 5, "robot0_eef_pos": 3}


@lru_cache(maxsize=1)
def fifty_steps() -> dict[str, dict[str, float]]:
    """Per case of robomimic's own checkpoints: how far both act apart over 50 steps, on its file and on ours made of it."""
    from tendon.export.formats.robomimic import export_pth, import_pth

    python, found = peers.robomimic(), {}
    with tempfile.TemporaryDirectory() as scratch:
        theirs, again = Path(scratch, "theirs"), Path(scratch, "ours")
        theirs.mkdir()
        again.mkdir()
        cases = peers.ask(python, "robomimic_policy.py", "make", str(theirs))["cases"]
        rng = np.random.default_rng(7)
        observations = {key: rng.normal(size=(STEPS, dim)).astype(np.float32) for key, dim in SHAPES.items()}
        bit_equal = {}
        for case in cases:
            imported = import_pth(theirs / f"{case}.pth")
            export_pth(imported.policy, imported.info, again / f"{case}.pth", "0.3", foreign=imported.foreign)
            bit_equal[case] = _same_content(theirs / f"{case}.pth", again / f"{case}.pth")
            for folder in (theirs, again):
                np.savez(folder / f"{case}.obs.npz", **observations)
        for folder in (theirs, again):
            peers.ask(python, "robomimic_policy.py", "act", str(folder))
        for case in cases:
            ours = _acted(import_pth(theirs / f"{case}.pth").policy, observations)
            files = [np.load(folder / f"{case}.acted.npz")["arr_0"] for folder in (theirs, again)]
            distances = [float(np.abs(ours - acted).max()) for acted in files]
            found[case] = {"theirs": distances[0], "ours": distances[1], "lossless": bit_equal[case]}
    return found


def _acted(policy: Any, observations: dict[str, np.ndarray]) -> np.ndarray:
    """Our actions with chance switched off, through the rollout's own actor."""
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
        steps = [{key: values[step] for key, values in observations.items()} for step in range(STEPS)]
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


@row("parity", "robomimic-pth-in", "largest difference of 50 actions, its .pth in tendon beside robomimic itself", "<= 1e-5")
def pth_in() -> float:
    """All policies, with frame stack and state rules."""
    return max(one["theirs"] for one in fifty_steps().values())


@row("parity", "robomimic-pth-out", "largest difference of 50 actions, robomimic loading the .pth tendon wrote", "<= 1e-5")
def pth_out() -> float:
    """Through robomimic's own policy_from_checkpoint."""
    return max(one["ours"] for one in fifty_steps().values())


@row("parity", "robomimic-pth-lossless", "share of robomimic's checkpoints that come back bit for bit", "== 1")
def pth_lossless() -> float:
    """Tensors, doubles, configuration, metadata."""
    cases = fifty_steps()
    return sum(one["lossless"] for one in cases.values()) / len(cases)


@lru_cache(maxsize=1)
def _results() -> list[dict[str, Any]]:
    from tendon.evaluate import sims
    from tests.benchmarks import robomimic_results

    if not sims.installed("robosuite"):
        raise Skip("robosuite is not installed: tendon sims install robosuite")
    return robomimic_results.results(1, 20, 20)


@row("parity", "robomimic-success", "smallest p of ours being worse than robomimic's on Lift, equal budget (exact McNemar)", ">= 0.05")
def success() -> float:
    """BC, BC-RNN-GMM, BC-Transformer-GMM; 1 where ours is not worse."""
    return min(1.0 if one["ours"] >= one["theirs"] else one["p"] for one in _results())


@row("bench", "robomimic-step", "our step's CPU time beside robomimic's, the slowest of three policies", "<= 0.9 x")
def step_time() -> float:
    """Data loading included, medians."""
    return max(one["step_s"] / one["their_step_s"] for one in _results())
