"""Two waiters of one trial never hurt each other; twenty moments and every event are in tests/benchmarks (make faults ROWS=waiters)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tendon.train.state.status import find_finished
from tests.train.forked_ranks import run_ranks
from tests.train.two_waiters import is_right, play


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Those of two ranks that nobody disturbed."""
    uri = tmp_path_factory.mktemp("undisturbed")
    assert run_ranks(uri) == [0, 0]
    result = find_finished(str(uri))
    assert result is not None
    return result.weights_sha256


@pytest.mark.parametrize(
    ("kill_at_s", "how", "event"),
    [
        pytest.param(2.5, signal.SIGTERM, "", marks=pytest.mark.long),
        pytest.param(3.0, signal.SIGKILL, "lost", marks=pytest.mark.long),
        (2.0, signal.SIGKILL, "gone"),
        pytest.param(2.5, signal.SIGTERM, "failed", marks=pytest.mark.long),
    ],
)
def test_the_trial_ends_with_the_same_weights_and_one_outcome(
    tmp_path: Path, weights: str, kill_at_s: float, how: signal.Signals, event: str
) -> None:
    story = play(tmp_path, kill_at_s, how, event, event_at_s=kill_at_s + 0.7)
    errors = "".join(path.read_text() for path in sorted(tmp_path.glob("*.err")))
    assert is_right(story, event, weights) == "", errors
