"""Faults between pictures and states: a camera that freezes while the state moves, or that is late."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tendon.data.check import Finding
from tendon.data.quality.camera_model import seen_and_expected
from tendon.data.quality.pictures import cameras_of
from tendon.data.quality.robust import TINY, best_stretch, center_and_spread, runs, sparkline
from tendon.data.quality.trajectory import Trajectory

FROZEN_FRAMES = 5
STILL = 0.02  # of the usual change from frame to frame: less than the noise of a sensor
MOVING = 0.3  # of the usual speed
USUAL_STILL = 0.3  # of the episodes: then it is a slow camera
AHEAD = 6  # frames over which a change is expected: one is less than what a codec leaves out
MOST_EXPECTED = 3.0  # of a change, in squares of what is not explained: of a state far from all others more is expected
STAYED = 16.0  # times more is expected than is seen
LEAST_MISSED = 1.5  # of all that is expected in a stretch
LAGS = (-4, -3, -2, -1, 0, 1, 2, 3, 4)
OFF = 0.75  # steps between the usual lag of a camera and that of an episode
SPREADS = 5.0
SOME_STEPS = 1.0  # steps' worth of what the usual lag leaves, that a lag far off explains
MANY_STEPS = 2.0  # the same, of any lag
SHARE = 0.03  # at least, of a lag that is not
KNOWN = 0.4  # steps that lags usually vary by: where they vary by more, states say little of this camera
TRIMMED = 0.95  # of the changes; the others are key frames, or faults
LARGE = 2.0  # what is not explained, in its usual size; above, it counts by its size and not by its square

Pairs = list[tuple[np.ndarray, np.ndarray]]


def timing_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Frozen pictures and late cameras, by one model of every camera."""
    if not trajectories[0].state_names:
        return []
    findings = []
    for camera in cameras_of(trajectories):
        pairs = seen_and_expected(trajectories, camera)
        findings += _frozen(trajectories, camera, pairs) + _shifted(trajectories, camera, pairs)
    return findings


def _frozen(trajectories: Sequence[Trajectory], camera: str, pairs: Pairs) -> list[Finding]:
    """A picture that stays while the state moves: without the noise of a sensor, or against what the state lets expect."""
    findings = []
    for each, noiseless, missed in zip(
        trajectories, _noiseless(trajectories, camera), _missed_changes(pairs), strict=True
    ):
        begin, end = max(noiseless, missed, key=lambda stretch: stretch[1] - stretch[0])
        if end > begin:
            change = np.abs(np.diff(each.thumbs[camera], axis=0)).mean(1)
            message = f"{camera} shows the same picture for {end - begin} frames while the state moves"
            findings.append(
                Finding("frozen", each.episode_id, message, end - begin - 1, (begin, end), sparkline(change))
            )
    return findings


def _noiseless(trajectories: Sequence[Trajectory], camera: str) -> list[tuple[int, int]]:
    """Of every episode the longest stretch of frames that do not differ though its state moves, or (0, 0)."""
    unit = np.median(np.stack([each.state.std(0) for each in trajectories]), 0) + TINY
    speeds = [np.abs(np.diff(each.state, axis=0) / unit).mean(1) for each in trajectories]
    usual_speed = float(np.median([np.median(each) for each in speeds]))
    changes = [np.abs(np.diff(each.thumbs[camera], axis=0)).mean(1) for each in trajectories]
    usual = float(np.median([np.median(each) for each in changes]))
    stretches = [
        [
            (begin, end + 1)
            for begin, end in runs(change <= STILL * usual)
            if end - begin >= FROZEN_FRAMES and speed[begin:end].mean() > MOVING * usual_speed
        ]
        for change, speed in zip(changes, speeds, strict=True)
    ]
    if np.mean([bool(each) for each in stretches]) > USUAL_STILL:
        return [(0, 0)] * len(trajectories)
    return [max(each, key=lambda stretch: stretch[1] - stretch[0], default=(0, 0)) for each in stretches]


def _missed_changes(pairs: Pairs) -> list[tuple[int, int]]:
    """Of every episode the stretch of frames in which far less changes than the states let expect, or (0, 0)."""
    changes = [(seen[AHEAD:] - seen[:-AHEAD], expected[AHEAD:] - expected[:-AHEAD]) for seen, expected in pairs]
    left = np.concatenate([np.square(seen - expected).sum(1) for seen, expected in changes])
    if not len(left):
        return [(0, 0)] * len(pairs)
    noise = float(np.minimum(left, np.quantile(left, TRIMMED)).mean()) + TINY
    stretches = []
    for seen, expected in changes:
        asked, shown = (np.square(each).sum(1) / noise for each in (expected, seen))
        missed = np.minimum(asked, MOST_EXPECTED) - STAYED * shown
        begin, end = best_stretch(missed)
        found = missed[begin:end].sum() > LEAST_MISSED
        stretches.append((begin, end + AHEAD) if found else (0, 0))
    return stretches


def _shifted(trajectories: Sequence[Trajectory], camera: str, pairs: Pairs) -> list[Finding]:
    """Pictures that fit the states of some steps before or after better than their own."""
    white = _whitening(np.concatenate([np.diff(seen - expected, axis=0) for seen, expected in pairs]))
    errors = [_errors_by_lag(seen @ white, expected @ white) for seen, expected in pairs]
    lags = np.array([_best_lag(each) for each in errors])
    usual = float(np.median(lags))
    off = lags - usual
    explained = np.array([each[round(usual) - LAGS[0]] / each.min() - 1 for each in errors])
    steps = np.array([len(seen) for seen, _ in pairs])
    spread = center_and_spread(off)[1].item()
    far = np.abs(off) > SPREADS * spread
    near = np.maximum(MANY_STEPS, SHARE * steps) if spread <= KNOWN else np.inf
    certain = explained * steps > np.where(far, SOME_STEPS, near)
    findings = []
    for e in np.flatnonzero((np.abs(off) > OFF) & certain).tolist():
        each, when = trajectories[e], "later" if off[e] > 0 else "before"
        message = f"the pictures of {camera} fit the states {abs(off[e]):.1f} steps {when}"
        findings.append(Finding("camera_shift", each.episode_id, message, 1, (0, each.length), sparkline(-errors[e])))
    return findings


def _whitening(changes: np.ndarray) -> np.ndarray:
    """What makes changes that are not explained equally large in all directions, by those that are not the largest."""
    sizes = np.square(changes / (changes.std(0) + TINY)).mean(1)
    usual = changes[sizes <= np.quantile(sizes, TRIMMED)]
    covariance = usual.T @ usual / len(usual)
    covariance[np.diag_indices_from(covariance)] += 0.01 * np.trace(covariance) / len(covariance) + TINY
    variances, directions = np.linalg.eigh(covariance)
    return np.asarray(directions / np.sqrt(variances))


def _errors_by_lag(seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How badly the states of so many steps later explain what changes in the pictures."""
    edge = max(LAGS)
    if len(seen) < 4 * edge:
        return np.ones(len(LAGS))
    steps = np.arange(len(expected))
    errors = []
    for lag in LAGS:
        moved = expected[np.clip(steps + lag, 0, len(expected) - 1)]
        left = np.abs(np.diff(seen - moved, axis=0))[edge:-edge]
        errors.append(np.where(left < LARGE, np.square(left), LARGE * (2 * left - LARGE)).mean() + TINY)
    return np.array(errors)


def _best_lag(errors: np.ndarray) -> float:
    """Where the errors are least, between lags too: a parabola through the three lowest."""
    k = int(np.clip(errors.argmin(), 1, len(LAGS) - 2))
    before, at, after = errors[k - 1 : k + 2]
    bend = before - 2 * at + after
    return LAGS[k] + (float(np.clip(0.5 * (before - after) / bend, -1, 1)) if bend > TINY else 0.0)
