"""Faults that show when whole episodes are compared: copies with noise, ends that are missing, texts of another task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tendon.data.check import Finding
from tendon.data.quality.robust import TINY, center_and_spread, sparkline
from tendon.data.quality.trajectory import Trajectory

POINTS = 12  # of an episode
COPY = 0.2  # of the usual distance to the nearest other episode
NEIGHBOURS = 7
AGREEING = 5  # of them, and at most one has the episode's own text
SHORT = 0.85  # of the median length
BLOCK = 512


def _paths(trajectories: Sequence[Trajectory]) -> np.ndarray:
    """Every episode as POINTS states in usual units, ``[E, POINTS * S]``."""
    unit = np.median(np.stack([each.state.std(0) for each in trajectories]), 0) + TINY
    center = np.median(np.stack([np.median(each.state, 0) for each in trajectories]), 0)
    rows = []
    for each in trajectories:
        at = np.linspace(0, each.length - 1, POINTS).round().astype(int)
        rows.append(np.clip((each.state[at] - center) / unit, -10, 10).reshape(-1))
    return np.stack(rows)


def _distances(paths: np.ndarray) -> np.ndarray:
    squares = np.square(paths).sum(1)
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * paths @ paths.T, 0.0)))


def near_duplicate_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Two episodes that are far closer to each other than any two usually are."""
    if not trajectories[0].state_names:
        return []
    distances = _distances(_paths(trajectories))
    np.fill_diagonal(distances, np.inf)
    usual = float(np.median(distances.min(1)))
    before = np.where(np.tri(len(distances), k=-1, dtype=bool), distances, np.inf)  # the later of the two is named
    findings = []
    for e in np.flatnonzero(before.min(1) < COPY * usual).tolist():
        each, other = trajectories[e], trajectories[int(before[e].argmin())]
        message = (
            f"is {before[e].min() / usual:.2f} of the usual distance away from {other.episode_id}: a copy with noise?"
        )
        findings.append(_finding("near_duplicate", each, message, (0, each.length)))
    return findings


def cut_short_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Episodes that are shorter than others of their task and end where none of those ends."""
    if not trajectories[0].state_names:
        return []
    unit = np.median(np.stack([each.state.std(0) for each in trajectories]), 0) + TINY
    findings = []
    for task in dict.fromkeys(each.task for each in trajectories):
        group = [each for each in trajectories if each.task == task]
        if len(group) < NEIGHBOURS:
            continue
        ends = np.stack([each.state[-3:].mean(0) for each in group]) / unit
        speeds = np.stack([np.abs(np.diff(each.state[-4:], axis=0)).mean(0) for each in group]) / unit
        values = np.concatenate([ends, 10 * speeds], 1)
        center, spread = center_and_spread(values)
        far = np.sqrt(np.square(np.clip((values - center) / np.maximum(spread, 0.1), -12, 12)).mean(1))
        usual, width = center_and_spread(np.log(far + TINY))
        lengths = np.array([each.length for each in group])
        odd = (np.log(far + TINY) > usual + np.maximum(0.5, 4 * width)) & (lengths < SHORT * np.median(lengths))
        for e in np.flatnonzero(odd).tolist():
            message = (
                f"ends after {lengths[e]} steps, usual are {np.median(lengths):g}, in a state in which no other ends"
            )
            findings.append(_finding("cut_short", group[e], message, (max(0, lengths[e] - 3), int(lengths[e]))))
    return findings


def wrong_text_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Episodes whose nearest neighbours all have one other task text."""
    tasks = np.array([each.task for each in trajectories])
    names, counts = np.unique(tasks, return_counts=True)
    if not trajectories[0].state_names or (counts >= NEIGHBOURS + 1).sum() < 2:
        return []
    paths = _paths(trajectories)
    groups = [paths[tasks == name] for name, count in zip(names, counts, strict=True) if count > NEIGHBOURS]
    apart = np.std([np.median(each, 0) for each in groups], axis=0)
    within = np.mean([center_and_spread(each)[1][0] for each in groups], axis=0) + 0.05
    distances = _distances(paths * np.minimum(apart / within, 3.0))  # what tells tasks apart counts
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, 1)[:, :NEIGHBOURS]
    findings = []
    for e in range(len(trajectories)):
        texts, votes = np.unique(tasks[near[e]], return_counts=True)
        text = str(texts[votes.argmax()])
        if text != tasks[e] and votes.max() >= AGREEING and (tasks[near[e]] == tasks[e]).sum() <= 1:
            message = f"its text is {str(tasks[e])!r}, it moves like {votes.max()} of {NEIGHBOURS} with {text!r}"
            findings.append(_finding("wrong_text", trajectories[e], message, (0, trajectories[e].length)))
    return findings


def _finding(kind: str, of: Trajectory, message: str, frames: tuple[int, int]) -> Finding:
    moving = np.abs(np.diff(of.state, axis=0)).mean(1)
    return Finding(kind, of.episode_id, message, 1, frames, sparkline(moving))
