"""Faults that show when whole episodes are compared: copies with noise, texts of another task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tendon.data.check import Finding
from tendon.data.quality.robust import TINY, sparkline
from tendon.data.quality.trajectory import Trajectory

POINTS = 12  # of an episode
COPY = 0.2  # of the usual distance to the nearest other episode
NEIGHBOURS = 7  # other episodes of a task, at least
FOLDS = 10
RIDGE = 0.3  # of numbers whose products are 1 on average
WRONG_TEXT = 0.1  # so much more like another text; a sure text has 1, any other 0
TOLD_APART = 0.8  # of the episodes must be most like their text
MOST_WRONG = 0.15  # of the episodes; above, the texts mean something else
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


def _nearest(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every row the distance to the nearest other one, and the distance and number of the nearest before it."""
    squares = np.square(paths).sum(1)
    any_other, before, which = np.full(len(paths), np.inf), np.full(len(paths), np.inf), np.zeros(len(paths), int)
    for begin in range(0, len(paths), BLOCK):
        rows = np.arange(begin, min(begin + BLOCK, len(paths)))
        distances = np.sqrt(np.maximum(squares[rows, None] + squares - 2 * paths[rows] @ paths.T, 0.0))
        distances[rows - begin, rows] = np.inf
        any_other[rows] = distances.min(1)
        distances[np.arange(len(paths)) > rows[:, None]] = np.inf
        before[rows], which[rows] = distances.min(1), distances.argmin(1)
    return any_other, before, which


def near_duplicate_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Two episodes that are far closer to each other than any two usually are."""
    if not trajectories[0].state_names:
        return []
    nearest, before, which = _nearest(_paths(trajectories))  # the later of the two is named
    usual = float(np.median(nearest))
    findings = []
    for e in np.flatnonzero(before < COPY * usual).tolist():
        each, other = trajectories[e], trajectories[int(which[e])]
        message = f"is {before[e] / usual:.2f} of the usual distance away from {other.episode_id}: a copy with noise?"
        findings.append(_finding("near_duplicate", each, message, (0, each.length)))
    return findings


def wrong_text_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Episodes that a model of the others takes for those of another task text.

    The model is a ridge regression from where an episode goes to its text; no episode is judged by a model that saw it.
    """
    tasks = np.array([each.task for each in trajectories])
    names, counts = np.unique(tasks, return_counts=True)
    names = names[counts > NEIGHBOURS]
    if not trajectories[0].state_names or len(names) < 2:
        return []
    judged = [each for each in trajectories if each.task in names]
    of = np.searchsorted(names, [each.task for each in judged])
    scores = _scores_unseen(_paths(judged), np.eye(len(names))[of])
    rows = np.arange(len(judged))
    own = scores[rows, of]
    scores[rows, of] = -np.inf
    gaps, nearest = scores.max(1) - own, scores.argmax(1)
    wrong = np.flatnonzero(gaps > WRONG_TEXT)
    if (gaps < 0).mean() < TOLD_APART or len(wrong) > MOST_WRONG * len(judged):
        return []  # texts do not say where episodes go
    findings = []
    for e in wrong.tolist():
        each, text = judged[e], str(names[nearest[e]])
        message = f"its text is {each.task!r}, it moves like episodes with {text!r}: {own[e] + gaps[e]:.2f} against {own[e]:.2f}"
        findings.append(_finding("wrong_text", each, message, (0, each.length)))
    return findings


def _scores_unseen(paths: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """``wanted [E, K]`` as a ridge regression from ``paths`` gives it, each row by a fit without its tenth of the rows."""
    unit = paths.std(0)
    X = np.clip((paths - np.median(paths, 0)) / np.where(unit > TINY, unit, 1.0), -4, 4)
    order = np.random.default_rng(0).permutation(len(X))
    scores = np.empty(wanted.shape)
    for fold in range(FOLDS):
        left = order[fold::FOLDS]
        kept = np.setdiff1d(order, left)
        mean = wanted[kept].mean(0)
        scores[left] = X[left] @ _ridge(X[kept], wanted[kept] - mean) + mean
    return scores


def _ridge(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Weights of a ridge regression, by the smaller of its two systems of equations."""
    num, width = X.shape
    if num <= width:
        return np.asarray(X.T @ np.linalg.solve(X @ X.T / width + RIDGE * np.eye(num), Y) / width)
    return np.asarray(np.linalg.solve(X.T @ X / width + RIDGE * np.eye(width), X.T @ Y / width))


def _finding(kind: str, of: Trajectory, message: str, frames: tuple[int, int]) -> Finding:
    moving = np.abs(np.diff(of.state, axis=0)).mean(1)
    return Finding(kind, of.episode_id, message, 1, frames, sparkline(moving))
