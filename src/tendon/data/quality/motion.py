"""Faults that the numbers of one episode show beside those of the others: scale, spikes, what stands still."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tendon.data.check import Finding
from tendon.data.quality.robust import TINY, center_and_spread, longest_run, sparkline
from tendon.data.quality.trajectory import Trajectory

SCALE_FACTOR = 4.0  # an episode's numbers are so many times larger than those of any usual one
SMALL_FACTOR = 100.0  # ... or so many times smaller
SPIKE_FACTOR = {
    "state": 5.5,
    "action": 8.0,
}  # so many times sharper than what is usual, and than all else in the episode
STUCK_SHARE = 0.3  # of an episode without the least change
IDLE_STEPS = 10
SLOW = 0.05  # of the usual speed


def scale_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Another unit: an episode whose numbers span and lie many times wider, or narrower, than those of the others."""
    findings = []
    for part in ("state", "action"):
        names = getattr(trajectories[0], f"{part}_names")
        arrays = [getattr(each, part) for each in trajectories]
        if not names:
            continue
        spans = np.stack([np.quantile(each, 0.95, axis=0) - np.quantile(each, 0.05, axis=0) for each in arrays])
        sizes = np.stack([np.abs(each).mean(0) for each in arrays])
        moving = np.median(spans, 0) > 1e-6
        odd = ((_far_in_log(spans) & _far_in_log(sizes)) | _far_below(spans, sizes)) & moving
        for e, d in _first_by_episode(odd):
            factor = spans[e, d] / np.median(spans[:, d])
            if factor < TINY or spans[e, d] < 1e-7:
                continue  # it stands still: another finding
            message = f"{names[d]} spans {factor:.3g} times what it spans in the others: another unit?"
            findings.append(_finding("scale", trajectories[e], message, (0, len(arrays[e])), arrays[e][:, d]))
    return findings


def _far_in_log(values: np.ndarray) -> np.ndarray:
    """Far above all that is usual, or much farther below: what spans little may span still less by chance."""
    low, high = np.quantile(values, (0.1, 0.9), axis=0)
    _, spread = center_and_spread(np.log(np.maximum(values, TINY)))
    above = np.maximum(SCALE_FACTOR, np.exp(3 * spread))
    return np.asarray((values > above * high) | (values < low / np.square(above)))


def _far_below(spans: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Both a hundredth of what is usual or less, and one of them by far more than it ever varies."""
    small, rare = np.ones(spans.shape, bool), np.zeros(spans.shape, bool)
    for values in (spans, sizes):
        logs = np.log(np.maximum(values, TINY))
        center, spread = center_and_spread(logs)
        small &= logs < center - np.log(SMALL_FACTOR)
        rare |= logs < center - 4 * spread
    return small & rare


def spike_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """One step that leaves the line between its neighbours as nothing else does."""
    findings = []
    for part in ("state", "action"):
        names = getattr(trajectories[0], f"{part}_names")
        arrays = [getattr(each, part) for each in trajectories]
        if not names:
            continue
        bends = [_bends(each) for each in arrays]
        sharpest = np.stack([each.max(0) for each in bends])
        switches = np.array(
            [np.median([len(np.unique(each[:, d])) for each in arrays]) <= 8 for d in range(len(names))]
        )
        # of a number that hardly ever turns back, the usual bend is nothing: then its usual step is the measure
        steps = np.median(np.stack([np.median(np.abs(np.diff(each, axis=0)), 0) for each in arrays]), 0)
        logs = np.log(np.maximum(sharpest, TINY))
        center, spread = center_and_spread(np.log(np.maximum(sharpest, np.maximum(steps, TINY))))
        # a whole episode in another unit bends more everywhere, and so does a hasty operator: a spike stands alone
        beside = logs - np.log(np.maximum(_sharpest_elsewhere(bends), np.maximum(steps, TINY)))
        least = np.maximum(np.log(SPIKE_FACTOR[part]), 3 * spread)
        for e, d in _first_by_episode((logs - center > least) & (beside > np.log(SPIKE_FACTOR[part])) & ~switches):
            step = int(bends[e][:, d].argmax()) + 1
            message = f"{names[d]} jumps at step {step} and comes back, {np.exp(logs[e, d] - center[0, d]):.3g} times the usual"
            findings.append(_finding("spike", trajectories[e], message, (step, step + 1), arrays[e][:, d]))
    return findings


def _bends(values: np.ndarray) -> np.ndarray:
    """How far every inner step lies beside the line between its neighbours, the smaller of jump and return."""
    steps = np.diff(values, axis=0)
    there, back = steps[:-1], steps[1:]
    return np.asarray(np.where(there * back < 0, np.minimum(np.abs(there), np.abs(back)), 0.0))


def _sharpest_elsewhere(bends: Sequence[np.ndarray]) -> np.ndarray:
    """Per episode and number the sharpest bend that is not within two steps of the sharpest, ``[E, D]``."""
    rows = []
    for each in bends:
        steps = np.arange(len(each))[:, None]
        rows.append(np.where(np.abs(steps - each.argmax(0)) > 2, each, 0.0).max(0))
    return np.stack(rows)


def stuck_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """A number of the state that stops changing while it changes in the other episodes; all of them: a static robot."""
    names = trajectories[0].state_names
    if not names:
        return []
    stretches = [[longest_run(flags) for flags in (np.diff(each.state, axis=0) == 0).T] for each in trajectories]
    steps = np.array([[end - begin for begin, end in each] for each in stretches])
    shares = steps / np.array([[each.length - 1] for each in trajectories])
    usual = np.quantile(shares, 0.75, axis=0)
    odd = (shares > STUCK_SHARE) & (shares > 3 * usual + 0.1) & (steps > IDLE_STEPS)
    movable = usual < STUCK_SHARE
    findings = []
    for e in np.flatnonzero(odd.any(1)).tolist():
        if movable.any() and odd[e][movable].mean() > 0.9 and movable.sum() > 1:
            d = int(np.flatnonzero(odd[e])[0])
            message, kind = f"no number of the state changes in {steps[e][movable].min()} steps", "static"
        else:
            d, kind = int(shares[e].argmax() if odd[e][shares[e].argmax()] else np.flatnonzero(odd[e])[0]), "stuck"
            message = f"{names[d]} does not change in {steps[e, d]} of {trajectories[e].length} steps"
        begin, end = stretches[e][d]
        findings.append(_finding(kind, trajectories[e], message, (begin, end + 1), trajectories[e].state[:, d]))
    return findings


def idle_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """A beginning or an end in which nothing moves and nothing is asked for, longer than usual."""
    if not trajectories[0].state_names:
        return []
    unit = np.median(np.stack([each.state.std(0) for each in trajectories]), 0) + TINY
    speeds = [np.abs(np.diff(each.state, axis=0) / unit).max(1) for each in trajectories]
    usual = float(np.median([np.median(each) for each in speeds]))
    heads, tails = [], []
    for each in speeds:
        moving = np.flatnonzero(each > SLOW * usual)
        heads.append(int(moving[0]) if len(moving) else len(each))
        tails.append(len(each) - 1 - int(moving[-1]) if len(moving) else 0)
    findings = []
    for name, steps in (("head", np.array(heads)), ("tail", np.array(tails))):
        limit = max(IDLE_STEPS, 3 * float(np.quantile(steps, 0.75)) + 3)
        for e in np.flatnonzero(steps >= limit).tolist():
            each, num = trajectories[e], int(steps[e])
            frames = (0, num) if name == "head" else (each.length - num, each.length)
            message = f"nothing moves in its {'first' if name == 'head' else 'last'} {num} steps"
            findings.append(_finding(f"idle_{name}", each, message, frames, speeds[e]))
    return findings


def range_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Numbers far outside of where those of all other episodes are, for more than a step."""
    findings = []
    for part in ("state", "action"):
        names = getattr(trajectories[0], f"{part}_names")
        arrays = [getattr(each, part) for each in trajectories]
        if not names:
            continue
        lows = np.stack([np.quantile(each, 0.1, axis=0) for each in arrays])
        highs = np.stack([np.quantile(each, 0.9, axis=0) for each in arrays])
        bottom, top = np.quantile(lows, 0.05, axis=0), np.quantile(highs, 0.95, axis=0)
        room = 1.5 * np.maximum(top - bottom, TINY)
        odd = ((lows < bottom - room) | (highs > top + room)) & (top - bottom > 1e-6)
        for e, d in _first_by_episode(odd):
            message = f"{names[d]} runs from {lows[e, d]:.4g} to {highs[e, d]:.4g}, elsewhere from {bottom[d]:.4g} to {top[d]:.4g}"
            findings.append(_finding("range", trajectories[e], message, (0, len(arrays[e])), arrays[e][:, d]))
    return findings


def _first_by_episode(odd: np.ndarray) -> list[tuple[int, int]]:
    return [(int(e), int(np.flatnonzero(odd[e])[0])) for e in np.flatnonzero(odd.any(1))]


def _finding(kind: str, of: Trajectory, message: str, frames: tuple[int, int], series: np.ndarray) -> Finding:
    return Finding(kind, of.episode_id, message, 1, frames, sparkline(series))
