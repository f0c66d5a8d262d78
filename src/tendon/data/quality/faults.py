"""All faults that the episodes of a dataset show when they are compared with each other. Pure: arrays in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tendon.data.check import Finding
from tendon.data.quality import ends, motion, pictures, response, similarity, timing
from tendon.data.quality.trajectory import Trajectory

FEWEST = 12  # episodes; of fewer nobody can say what is usual

Look = Callable[[Sequence[Trajectory]], list[Finding]]
LOOKS: tuple[Look, ...] = (
    motion.scale_findings,
    motion.spike_findings,
    motion.stuck_findings,
    motion.idle_findings,
    motion.range_findings,
    response.response_findings,
    response.leak_findings,
    similarity.near_duplicate_findings,
    ends.cut_short_findings,
    similarity.wrong_text_findings,
    pictures.exposure_findings,
    pictures.swapped_findings,
    timing.timing_findings,
)


def find_faults(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Findings, each with its episode, the frames, the evidence and a picture of it in a line of text."""
    usable = [each for each in trajectories if each.length > 2]
    if len(usable) < FEWEST:
        return []
    return [finding for look in LOOKS for finding in look(usable)]
