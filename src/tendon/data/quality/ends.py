"""Episodes whose end is missing: they end where, and while, no other episode of their task ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tendon.data.check import Finding
from tendon.data.quality.robust import TINY, center_and_spread, sparkline
from tendon.data.quality.trajectory import Trajectory

NEIGHBOURS = 7  # other episodes of a task, at least
SHORT = 0.85  # of the median length
ALIKE = 0.95  # of the others have one length: then a shorter episode was cut
FEW = 0.25  # of the episodes may be cut
LAST = 3  # steps that are an end
BEFORE = (1, 2, 4, 8)  # steps from which an end moved
PLACES = (0.3, 0.45, 0.6, 0.75, 0.85)  # of an episode: steps that are no end
# by the share of the usual length: how many spreads less like an end than usual
SPREADS = ((0.5, 0.6, 0.84, 0.86), (1.0, 1.5, 2.0, 3.5))
LEAST_SPREAD = 0.13  # the usual end has about 1, any other step 0
FOLDS, RIDGE = 10, 0.3
WIDE = 5.0  # usual units


def cut_short_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Two kinds of evidence, task by task, and less is enough of the first where an episode is short.

    A model that tells ends of the other episodes from their middles takes the end for a middle; or the episode is shorter
    and all the others have one length.
    """
    if not trajectories[0].state_names:
        return []
    unit = np.median(np.stack([each.state.std(0) for each in trajectories]), 0) + TINY
    findings = []
    for task in dict.fromkeys(each.task for each in trajectories):
        group = [each for each in trajectories if each.task == task]
        if len(group) < NEIGHBOURS:
            continue
        lengths = np.array([each.length for each in group])
        usual = float(np.median(lengths))
        shorter = lengths < SHORT * usual
        one_length = (lengths == usual).sum() >= ALIKE * (~shorter).sum() and shorter.mean() < FEW
        scores = _end_scores_unseen(group, unit)
        center, spread = center_and_spread(scores)
        spreads = np.interp(lengths / usual, *SPREADS)
        unlike = scores < center - spreads * np.maximum(spread, LEAST_SPREAD)
        for e in np.flatnonzero(unlike | (shorter & one_length)).tolist():
            reason = "in the middle of what the others do" if unlike[e] else "all others have one length"
            message = f"ends after {lengths[e]} steps, usual are {usual:g}: {reason}"
            moving = np.abs(np.diff(group[e].state, axis=0)).mean(1)
            frames = (max(0, int(lengths[e]) - LAST), int(lengths[e]))
            findings.append(Finding("cut_short", group[e].episode_id, message, 1, frames, sparkline(moving)))
    return findings


def _end_scores_unseen(group: Sequence[Trajectory], unit: np.ndarray) -> np.ndarray:
    """How much every episode's end is like one ``[E]``, by a model that did not see the episode."""
    center = np.median(np.stack([np.median(each.state, 0) for each in group]), 0)
    action_unit = np.median(np.stack([each.action.std(0) for each in group]), 0) + TINY
    states, actions = [(each.state - center) / unit for each in group], [each.action / action_unit for each in group]
    ends = np.stack([_moment(*each, len(each[0])) for each in zip(states, actions, strict=True)])
    middles = np.stack(
        [
            [_moment(state, action, max(LAST, round(place * len(state)))) for place in PLACES]
            for state, action in zip(states, actions, strict=True)
        ]
    )
    order = np.random.default_rng(0).permutation(len(group))
    scores: np.ndarray = np.empty(len(group))
    for fold in range(min(FOLDS, len(group))):
        left = order[fold::FOLDS]
        kept = np.setdiff1d(order, left)
        scores[left] = _end_scores(ends[kept], middles[kept].reshape(-1, ends.shape[1]), ends[left])
    return scores


def _moment(state: np.ndarray, action: np.ndarray, end: int) -> np.ndarray:
    """What a model sees of the steps before ``end``: the state, how it came there, what was asked for."""
    asked = action[max(0, end - LAST) : end].mean(0)
    parts = [state[max(0, end - LAST) : end].mean(0), asked, np.abs(asked)]
    for steps in BEFORE:
        moved = 4 * (state[end - 1] - state[max(0, end - 1 - steps)]) / np.sqrt(steps)
        parts += [moved, np.abs(moved)]
    return np.asarray(np.clip(np.concatenate(parts), -WIDE, WIDE))


def _end_scores(ends: np.ndarray, middles: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """About 1 for an end and 0 for a middle: ridge regression on numbers and their squares, both classes of one weight."""
    rows = np.concatenate([ends, middles])
    wanted = np.r_[np.ones(len(ends)), np.zeros(len(middles))]
    weight = np.r_[np.full(len(ends), 0.5 / len(ends)), np.full(len(middles), 0.5 / len(middles))]
    mean, unit = rows.mean(0), rows.std(0) + TINY

    def inputs(values: np.ndarray) -> np.ndarray:
        scaled = (values - mean) / unit
        return np.concatenate([scaled, np.square(scaled), np.ones((len(scaled), 1))], 1)

    X = inputs(rows)
    gram = X.T @ (X * weight[:, None])
    gram[np.diag_indices_from(gram)] += RIDGE
    return np.asarray(inputs(asked) @ np.linalg.solve(gram, X.T @ (weight * wanted)))
