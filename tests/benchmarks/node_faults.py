"""``make faults ROWS=waiters``: two runs wait for the TrainJob of one trial, and one is killed at twenty moments.

The API server is the fake one of the tests, the pods are real trainings of two ranks. Beside the kill, in turn: nothing, the
job is deleted, a node is lost, the job fails, a deletion takes its time.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tendon.train.state.status import find_finished
from tests.benchmarks.rows import row
from tests.train.forked_ranks import run_ranks
from tests.train.two_waiters import EVENTS, is_right, play

MOMENTS = 20


@row(
    "faults", "waiters", f"share of {MOMENTS} kills of one of two waiters with the same weights and one outcome", "== 1"
)
def waiters() -> float:
    """SIGKILL and SIGTERM by turns, from its first second to its last."""
    moments, right, codes = random.Random(17), 0, Counter()
    with tempfile.TemporaryDirectory() as folder:
        assert run_ranks(Path(folder, "undisturbed")) == [0, 0]
        undisturbed = find_finished(str(Path(folder, "undisturbed")))
        assert undisturbed is not None
        for number in range(MOMENTS):
            event, how = EVENTS[number % len(EVENTS)], (signal.SIGKILL, signal.SIGTERM)[number // len(EVENTS) % 2]
            place = Path(folder, str(number))
            place.mkdir()
            kill_at_s = moments.uniform(0.3, 6.0)
            story = play(place, kill_at_s, how, event, event_at_s=moments.uniform(1.5, 5.0))
            wrong = is_right(story, event, undisturbed.weights_sha256)
            right += not wrong
            codes.update(code for attempts in story.codes for code in attempts)
            words = f"{how.name} at {kill_at_s:.1f} s, {event or 'nothing else'}: {wrong or 'right'}"
            sys.stderr.write(
                f"{number}: {words}; exit codes {story.codes}, {story.jobs_made} jobs, {story.seconds:.0f} s\n"
            )
            if wrong:
                sys.stderr.write("".join(path.read_text() for path in sorted(place.glob("*.err"))))
    sys.stderr.write(f"exit codes of the waiters: {dict(codes)}\n")
    return right / MOMENTS
