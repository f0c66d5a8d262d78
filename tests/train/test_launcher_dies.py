"""No rank outlives its launcher, and a killed rank is an interruption that is tried again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.security.test_guest_children import gone, runs
from tests.train.launched_ranks import launch, pids


def test_ranks_end_with_a_killed_launcher(tmp_path: Path) -> None:
    launcher = launch(tmp_path, 2000)
    ranks = pids(tmp_path)
    assert all(map(runs, ranks))
    launcher.kill()
    launcher.wait()
    assert gone(ranks, within_s=40)


def test_a_killed_rank_is_an_interruption(tmp_path: Path) -> None:
    launcher = launch(tmp_path, 2000)
    pids(tmp_path)
    os.kill(int((tmp_path / "rank-1").read_text().split()[0]), signal.SIGKILL)
    assert launcher.wait(60) == 75
