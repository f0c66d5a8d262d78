"""Faults of cameras that pictures alone show, from thumbnails: black and overexposed frames, swapped cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tendon.data.check import Finding
from tendon.data.quality.robust import longest_run, sparkline
from tendon.data.quality.trajectory import Trajectory

BLACK, WHITE = 12.0, 243.0
USUAL_BLACK, USUAL_WHITE = 25.0, 230.0
FEW_FRAMES = 3


def cameras_of(trajectories: Sequence[Trajectory]) -> list[str]:
    """Those that every episode has."""
    return [name for name in trajectories[0].thumbs if all(name in each.thumbs for each in trajectories)]


def exposure_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Frames without light or with too much, of a camera that usually shows something."""
    findings = []
    for camera in cameras_of(trajectories):
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


def swapped_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """An episode whose cameras look like each other's usual picture."""
    findings = []
    cameras = cameras_of(trajectories)
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
