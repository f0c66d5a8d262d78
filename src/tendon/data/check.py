"""What is wrong or odd with demonstrations. Pure: values in, problems and findings out.

A problem stops the conversion before anything is written; a finding is reported and travels with the statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tendon.data.episode import Episode
from tendon.errors import Problem

TINY_SPAN = 1e-4  # a dimension that spans less is noise around a constant
OUTLIER_FACTOR = 3.0  # an episode this many times longer or shorter than the median is an outlier
MAX_LISTED = 20


@dataclass(frozen=True)
class Finding:
    """Something odd that does not stop anything. ``where``: a feature, or an episode id; ``count``: how many."""

    kind: str
    where: str
    message: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def episode_problems(episode: Episode, uri: str) -> list[Problem]:
    """NaN or infinite values of one episode, one problem per feature."""
    problems = []
    for name, values in episode.features.items():
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        rows = values.reshape(len(values), -1)
        step, dim = np.argwhere(~np.isfinite(rows))[0]
        num = int((~np.isfinite(rows)).sum())
        problems.append(
            Problem(
                f"{name} is not finite in {episode.episode_id}",
                f"{uri}, {episode.episode_id}, {name}, step {step}, dimension {dim}",
                f"the value is {rows[step, dim]}; {num} of {rows.size} values are NaN or infinite",
                f"data.skip_episodes=[{episode.episode_id}], or record it again",
            )
        )
    return problems


def span_findings(minimum: Mapping[str, Sequence[float]], maximum: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Constant and tiny-span dimensions, and actions outside [-1, 1], from the extremes of every feature."""
    findings = []
    for name in minimum:
        low, high = np.asarray(minimum[name]), np.asarray(maximum[name])
        constant = np.flatnonzero(high == low)
        tiny = np.flatnonzero((high > low) & (high - low < TINY_SPAN))
        for kind, dims in (("constant", constant), ("tiny_span", tiny)):
            if len(dims):
                message = f"{_dims(dims)} of {len(low)} never change" if kind == "constant" else (
                    f"{_dims(dims)} of {len(low)} span less than {TINY_SPAN}"
                )  # fmt: skip
                findings.append(Finding(kind, name, message, len(dims)))
        outside = np.flatnonzero((low < -1) | (high > 1))
        if name == "action" and len(outside):
            message = f"{_dims(outside)} leave [-1, 1]: from {low.min():.4g} to {high.max():.4g}"
            findings.append(Finding("action_range", name, message, len(outside)))
    return findings


def length_findings(episode_ids: Sequence[str], lengths: np.ndarray) -> list[Finding]:
    """Episodes that are far longer or shorter than the median."""
    median = float(np.median(lengths))
    odd = np.flatnonzero((lengths > OUTLIER_FACTOR * median) | (lengths * OUTLIER_FACTOR < median))
    return [
        Finding("length", episode_ids[i], f"{int(lengths[i])} steps, the median is {median:g}")
        for i in odd[:MAX_LISTED]
    ] + _more("length", len(odd))


def duplicate_findings(episode_ids: Sequence[str], fingerprints: Sequence[object]) -> list[Finding]:
    """Episodes whose low-dimensional values are the same."""
    first: dict[object, str] = {}
    found = []
    for episode_id, fingerprint in zip(episode_ids, fingerprints, strict=True):
        original = first.setdefault(fingerprint, episode_id)
        if original != episode_id:
            found.append(Finding("duplicate", episode_id, f"has the same values as {original}"))
    return found[:MAX_LISTED] + _more("duplicate", len(found))


def split_findings(splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Episodes that are both trained on and validated on."""
    both = sorted(set(splits.get("train", ())) & set(splits.get("valid", ())))
    message = f"{', '.join(both[:5])}{' ...' if len(both) > 5 else ''} are in train and in valid"
    return [Finding("split_overlap", "train", message, len(both))] if both else []


def _more(kind: str, num: int) -> list[Finding]:
    return [Finding(kind, "...", f"and {num - MAX_LISTED} more", num - MAX_LISTED)] if num > MAX_LISTED else []


def _dims(dims: np.ndarray) -> str:
    shown = ", ".join(str(int(each)) for each in dims[:8])
    return f"dimension{'s' if len(dims) > 1 else ''} {shown}{' ...' if len(dims) > 8 else ''}"
