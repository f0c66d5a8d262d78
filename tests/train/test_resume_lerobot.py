"""ACT (latent and dropout) and Diffusion Policy (noise, time steps, moving average), killed: the bytes of an undisturbed run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from tendon.policies.registry import make_policy
from tendon.storage import open_store
from tendon.train.state.checkpoint import complete
from tests.policies.features_of import features_of
from tests.train.killed_trial import start_trial
from tests.train.lerobot_policies import OPTIONS
from tests.train.small_trial import make_stats, run
from tests.train.test_resume import outcome


@pytest.mark.parametrize("name", list(OPTIONS))
def test_sigkill_in_a_step_and_in_a_write(name: str, tmp_path: Path) -> None:
    run(tmp_path / "whole", **OPTIONS[name])
    newest = 0
    for event, number in (("batch", 4), ("write", 9), ("batch", 33), ("write", 12)):
        process, _ = start_trial(tmp_path / "killed", event, number, **OPTIONS[name])
        process.join()
        assert process.exitcode == -signal.SIGKILL
        newest = max(map(int, complete(open_store(str(tmp_path / "killed")))), default=0)
    assert newest >= 10
    assert run(tmp_path / "killed", **OPTIONS[name]).resumed_from == newest
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("name", list(OPTIONS))
def test_there_is_chance_in_their_losses(name: str) -> None:
    """Else the test above would prove nothing."""
    config = OPTIONS[name]["policy"]
    features = features_of({"observation.b_target": 2, "observation.a_agent": 2, "action": 2})
    policy = make_policy(config, features, make_stats().features)
    batch = {key: torch.zeros(8, len(span.deltas), 2) for key, span in policy.windows.training.items()}
    batch["action_is_pad"] = torch.zeros(8, 4, dtype=torch.bool)
    losses = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        losses.append(policy.loss(batch).loss.item())
    assert losses[0] == losses[2] != losses[1]
