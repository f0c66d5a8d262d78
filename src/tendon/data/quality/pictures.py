"""Faults of cameras, from thumbnails: black, overexposed and frozen frames, swapped cameras, a camera that is late."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tendon.data.check import Finding
from tendon.data.quality.robust import TINY, center_and_spread, longest_run, runs, sparkline
from tendon.data.quality.trajectory import Trajectory

BLACK, WHITE = 12.0, 243.0
USUAL_BLACK, USUAL_WHITE = 25.0, 230.0
FEW_FRAMES = 3
FROZEN_FRAMES = 5
STILL = 0.02  # of the usual change from frame to frame
LAGS = (-4, -3, -2, -1, 0, 1, 2, 3, 4)
PARTS = 24  # principal parts of a thumbnail
OFF = 0.9  # steps between the usual lag of a camera and that of an episode
APART = 0.7  # ... and between what two cameras say of one episode
FAR, ALONE = 2.0, 0.1  # of a single camera: steps, or the share of what is not explained that must go
SPREADS = 5.0


def _cameras(trajectories: Sequence[Trajectory]) -> list[str]:
    return [name for name in trajectories[0].thumbs if all(name in each.thumbs for each in trajectories)]


def exposure_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Frames without light or with too much, of a camera that usually shows something."""
    findings = []
    for camera in _cameras(trajectories):
        levels = [each.thumbs[camera].mean(1) for each in trajectories]
        usual = float(np.median([np.median(each) for each in levels]))
        for each, level in zip(trajectories, levels, strict=True):
            odd = {"black": level < BLACK} if usual > USUAL_BLACK else {}
            odd |= {"overexposed": level > WHITE} if usual < USUAL_WHITE else {}
            for kind, flags in odd.items():
                begin, end = longest_run(flags)
                if end - begin >= FEW_FRAMES:
                    num = int(flags.sum())
                    message = f"{num} of {each.length} frames of {camera} are {kind}"
                    findings.append(Finding(kind, each.episode_id, message, num, (begin, end), sparkline(level)))
    return findings


def frozen_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """A picture that stays while the state moves."""
    findings = []
    unit = np.median(np.stack([each.state.std(0) for each in trajectories]), 0) + TINY
    speeds = [np.abs(np.diff(each.state, axis=0) / unit).mean(1) for each in trajectories]
    usual_speed = float(np.median([np.median(each) for each in speeds]))
    for camera in _cameras(trajectories):
        changes = [np.abs(np.diff(each.thumbs[camera], axis=0)).mean(1) for each in trajectories]
        usual = float(np.median([np.median(each) for each in changes]))
        still = [[run for run in runs(each <= STILL * usual) if run[1] - run[0] >= FROZEN_FRAMES] for each in changes]
        moving = [
            [(b, e) for b, e in stretches if speed[b:e].mean() > 0.3 * usual_speed]
            for stretches, speed in zip(still, speeds, strict=True)
        ]
        if np.mean([bool(each) for each in moving]) > 0.3:
            continue  # a slow camera, not a fault of an episode
        for each, change, stretches in zip(trajectories, changes, moving, strict=True):
            if stretches:
                begin, end = max(stretches, key=lambda run: run[1] - run[0])
                message = f"{camera} shows the same picture for {end - begin + 1} frames while the state moves"
                findings.append(
                    Finding("frozen", each.episode_id, message, end - begin, (begin, end + 1), sparkline(change))
                )
    return findings


def swapped_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """An episode whose cameras look like each other's usual picture."""
    findings = []
    cameras = _cameras(trajectories)
    for i, a in enumerate(cameras):
        for b in cameras[i + 1 :]:
            means = {name: np.stack([each.thumbs[name].mean(0) for each in trajectories]) for name in (a, b)}
            if means[a].shape != means[b].shape:
                continue
            usual = {name: np.median(means[name], 0) for name in (a, b)}
            own, other = (
                np.abs(means[a] - usual[x]).mean(1) + np.abs(means[b] - usual[y]).mean(1) for x, y in ((a, b), (b, a))
            )
            if np.median(other) < 2 * np.median(own):
                continue  # they look alike
            for e in np.flatnonzero(other < 0.6 * own).tolist():
                each = trajectories[e]
                message = f"{a} and {b} show what the other usually shows: swapped?"
                picture = sparkline(each.thumbs[a].mean(0))
                findings.append(Finding("swapped_cameras", each.episode_id, message, 1, (0, each.length), picture))
    return findings


def camera_shift_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """A camera whose pictures fit the states of some steps before or after better than their own."""
    findings = []
    if not trajectories[0].state_names:
        return []
    unit = np.median(np.stack([each.state.std(0) for each in trajectories]), 0) + TINY
    center = np.median(np.stack([np.median(each.state, 0) for each in trajectories]), 0)
    states = [np.clip((each.state - center) / unit, -5, 5) for each in trajectories]
    inputs = [np.concatenate([each, np.square(each), np.ones((len(each), 1))], 1) for each in states]
    tables = {camera: _lag_table(trajectories, camera, inputs) for camera in _cameras(trajectories)}
    lags = {camera: np.array([_best_lag(errors) for errors in table]) for camera, table in tables.items()}
    off = {camera: each - np.median(each) for camera, each in lags.items()}
    odd = {camera: np.abs(each) > max(OFF, SPREADS * center_and_spread(each)[1].item()) for camera, each in off.items()}
    if len(off) == 1:  # nothing beside it says that the state is not to blame: it must be far off, or fit much better
        (camera,) = off
        usual = int(np.argmin(np.abs(np.array(LAGS) - np.median(lags[camera]))))
        gains = 1 - tables[camera].min(1) / tables[camera][:, usual]
        odd[camera] &= (np.abs(off[camera]) > FAR) | (gains > ALONE)
    else:
        for camera in off:  # what one camera says of an episode, the others say too: they share the state
            others = np.median([off[other] for other in off if other != camera], axis=0)
            apart = off[camera] - others
            spread = center_and_spread(apart)[1].item()
            farther = np.abs(off[camera]) >= np.maximum(np.abs(others), APART - 0.2)
            odd[camera] |= (np.abs(apart) > max(APART, SPREADS * spread)) & farther
    for camera, flags in odd.items():
        for e in np.flatnonzero(flags).tolist():
            each, steps = trajectories[e], off[camera][e]
            when = "later" if steps > 0 else "before"
            message = f"the pictures of {camera} fit the states {abs(steps):.1f} steps {when}"
            picture = sparkline(-tables[camera][e])
            findings.append(Finding("camera_shift", each.episode_id, message, 1, (0, each.length), picture))
    return findings


def _lag_table(trajectories: Sequence[Trajectory], camera: str, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Per episode and lag, how badly the states of so many steps later explain what changes in the pictures."""
    thumbs = [each.thumbs[camera].astype(np.float64) for each in trajectories]
    middle = np.median(np.concatenate(thumbs), 0)
    sample = np.concatenate([each[::4] - each.mean(0) for each in thumbs])
    _, _, parts = np.linalg.svd(sample[:20_000], full_matrices=False)
    shown = [(each - middle) @ parts[:PARTS].T for each in thumbs]
    levels = np.concatenate(thumbs).mean(1)
    level, width = (each.item() for each in center_and_spread(levels))
    usable = [np.abs(each.mean(1) - level) <= 6 * width + 1.0 for each in thumbs]  # black frames would lead the model
    weights = _fitted(inputs, shown, usable)
    left = np.array([np.square(y - x @ weights).mean() for x, y in zip(inputs, shown, strict=True)])
    center, spread = center_and_spread(np.log(left + TINY))
    odd = np.log(left + TINY) > center + np.maximum(0.5, 4 * spread)  # and so would swapped cameras
    weights = _fitted(inputs, shown, [flags & ~bad for flags, bad in zip(usable, odd, strict=True)])
    # changes only: a scene that differs from the others as a whole says nothing about time
    return np.array([_errors_by_lag(x @ weights, y) for x, y in zip(inputs, shown, strict=True)])


def _fitted(inputs: Sequence[np.ndarray], shown: Sequence[np.ndarray], usable: Sequence[np.ndarray]) -> np.ndarray:
    """Least squares from states to pictures over the usable frames."""
    X, Y = (np.concatenate([part[flags] for part, flags in zip(each, usable, strict=True)]) for each in (inputs, shown))
    gram = X.T @ X
    gram[np.diag_indices_from(gram)] += 1e-3 * max(len(X), 1)
    return np.asarray(np.linalg.solve(gram, X.T @ Y))


def _best_lag(errors: np.ndarray) -> float:
    """Where the errors are least, between lags too: a parabola through the three lowest."""
    k = int(np.clip(errors.argmin(), 1, len(LAGS) - 2))
    before, at, after = errors[k - 1 : k + 2]
    bend = before - 2 * at + after
    return LAGS[k] + (float(np.clip(0.5 * (before - after) / bend, -1, 1)) if bend > TINY else 0.0)


def _errors_by_lag(expected: np.ndarray, shown: np.ndarray) -> list[float]:
    edge = max(abs(lag) for lag in LAGS)
    if len(shown) < 4 * edge:
        return [1.0] * len(LAGS)
    changes = np.diff(shown, axis=0)
    errors = []
    for lag in LAGS:
        at = np.clip(np.arange(len(expected)) + lag, 0, len(expected) - 1)
        predicted = np.diff(expected[at], axis=0)
        errors.append(float(np.square(changes - predicted)[edge:-edge].mean()) + TINY)
    return errors
