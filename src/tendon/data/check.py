"""Checks of demonstrations. A problem stops the conversion before anything is written. A finding is only reported.

Findings are stored with the statistics. Pure: values in, problems and findings out.
"""

from __future__ import annotations

import hashlib
import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tendon.data.episode import Episode, Schema
from tendon.errors import DataError, Problem

if TYPE_CHECKING:
    from tendon.data.sources.source import Source

log = logging.getLogger(__name__)

UNFORESEEN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
TINY_SPAN = 1e-4  # a dimension that spans less is noise around a constant
WRONG_RATE = 0.01  # timestamps may run so much faster or slower than the frame rate
GAP = 1.5  # steps between two timestamps
TIMESTAMP = "timestamp"
OUTLIER_FACTOR = 3.0  # an episode this many times longer or shorter than the median is an outlier
SHORTER_FACTOR, LENGTH_SPREADS, FEWEST_LENGTHS = 1.4, 6.0, 12  # shorter by this, and by so many usual deviations
MAX_LISTED = 20


@dataclass(frozen=True)
class Finding:
    """Something odd that does not stop anything. ``where``: a feature, or an episode id; ``count``: how many.

    ``frames`` are the first and the one after the last step that show it; ``picture`` draws the evidence in a line.
    """

    kind: str
    where: str
    message: str
    count: int = 1
    frames: tuple[int, int] | None = None
    picture: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True)
class Ticks:
    """Differences between an episode's timestamps, per episode ``[E]``; an episode of one step counts as perfect."""

    mean_s: np.ndarray
    longest_s: np.ndarray
    shortest_s: np.ndarray

    @classmethod
    def of(cls, times: Sequence[np.ndarray], fps: float) -> Ticks:
        """From the timestamps of every episode; one step has no difference."""
        steps_s = [
            np.diff(np.asarray(time_s, np.float64).reshape(-1)) if len(time_s) > 1 else np.array([1 / fps])
            for time_s in times
        ]
        return cls(
            np.array([step_s.mean() for step_s in steps_s]),
            np.array([step_s.max() for step_s in steps_s]),
            np.array([step_s.min() for step_s in steps_s]),
        )

    @classmethod
    def merged(cls, parts: Sequence[Ticks]) -> Ticks:
        """Of all parts in their order."""
        kinds = ("mean_s", "longest_s", "shortest_s")
        return cls(*(np.concatenate([getattr(each, kind) for each in parts]) for kind in kinds))


@dataclass(frozen=True)
class Facts:
    """The values that findings are computed from: arrays over episodes ``[E]``, extremes over all of them."""

    ids: tuple[str, ...]
    lengths: np.ndarray
    without_task: np.ndarray  # bool: no task text
    prints: np.ndarray  # equal where all low-dimensional values are
    outside: np.ndarray  # action dimensions outside [-1, 1]
    lows: Mapping[str, np.ndarray]
    highs: Mapping[str, np.ndarray]
    ticks: Ticks | None

    @classmethod
    def of(cls, episodes: Sequence[Episode], fps: float) -> Facts:
        """Of episodes in memory."""
        lows = [{name: _rows(values).min(0) for name, values in each.features.items()} for each in episodes]
        highs = [{name: _rows(values).max(0) for name, values in each.features.items()} for each in episodes]
        timed = [each.features[TIMESTAMP] for each in episodes if TIMESTAMP in each.features]
        return cls(
            tuple(each.episode_id for each in episodes),
            np.array([each.length for each in episodes], np.int64),
            np.array([not each.task.strip() for each in episodes]),
            np.array([_print(each) for each in episodes], np.uint64),
            np.array([_outside(low, high) for low, high in zip(lows, highs, strict=True)], np.int64),
            {name: np.min([each[name] for each in lows], 0) for name in lows[0]},
            {name: np.max([each[name] for each in highs], 0) for name in highs[0]},
            Ticks.of(timed, fps) if len(timed) == len(episodes) else None,
        )

    @classmethod
    def merged(cls, parts: Sequence[Facts]) -> Facts:
        """Of all parts in their order."""
        ticks = [each.ticks for each in parts if each.ticks is not None]

        def joined(key: str) -> np.ndarray:
            return np.concatenate([getattr(each, key) for each in parts])

        return cls(
            ids=tuple(one for each in parts for one in each.ids),
            lengths=joined("lengths"),
            without_task=joined("without_task"),
            prints=joined("prints"),
            outside=joined("outside"),
            lows={name: np.min([each.lows[name] for each in parts], 0) for name in parts[0].lows},
            highs={name: np.max([each.highs[name] for each in parts], 0) for name in parts[0].highs},
            ticks=Ticks.merged(ticks) if len(ticks) == len(parts) else None,
        )

    def findings(self, schema: Schema, splits: Mapping[str, Sequence[str]]) -> tuple[Finding, ...]:
        """Everything odd."""
        fps, texts = schema.fps, schema.text_keys
        observed = [
            name for name in self.lows if not name.startswith("next.") and name != TIMESTAMP and name not in texts
        ]
        lows, highs = ({name: each[name].tolist() for name in observed} for each in (self.lows, self.highs))
        findings = span_findings(lows, highs)
        if "action" in lows:
            findings += action_findings(lows["action"], highs["action"], self.ids, self.outside)
        findings += [*length_findings(self.ids, self.lengths), *duplicate_findings(self.ids, self.prints)]
        findings += task_findings(self.ids, self.without_task)
        if self.ticks is not None:
            findings += timing_findings(self.ids, self.ticks, fps)
        return tuple(findings + split_findings(splits))


def finding_problems(findings: Sequence[Finding], uri: str) -> list[Problem]:
    """Findings as errors, for the strict mode."""
    return [
        Problem(f"{each.kind.replace('_', ' ')}: {each.message}", f"{uri}, {each.where}", "strict mode makes findings errors",
                "repair the recording, data.skip_episodes=[...], or convert without strict")
        for each in findings
    ]  # fmt: skip


def checked_read(source: Source, episode_id: str, schema: Schema) -> tuple[Episode | None, list[Problem]]:
    """An episode without its images, and what is wrong with it; None where it cannot be read at all."""
    try:
        episode = source.read(episode_id, images=False)
    except DataError as error:
        return None, list(error.problems)
    except UNFORESEEN as error:  # of a damaged file that the reader did not think of: the episode is named all the same
        log.debug("convert: %s", traceback.format_exc())
        why = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        fix = f"data.skip_episodes=[{episode_id}], or record it again"
        return None, [Problem(f"{episode_id} cannot be read", f"{source.uri}, {episode_id}", why, fix)]
    return episode, [*episode_problems(episode, source.uri), *text_problems(episode, schema, source.uri)]


def episode_problems(episode: Episode, uri: str) -> list[Problem]:
    """NaN or infinite values of one episode, one problem per feature."""
    problems = []
    for name, values in episode.features.items():
        if values.dtype.kind != "f" or np.isfinite([values.min(), values.max()]).all():  # NaN is in both
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


def text_problems(episode: Episode, schema: Schema, uri: str) -> list[Problem]:
    """Numbers of texts that the table does not have, one problem per feature."""
    problems = []
    for key in schema.text_keys:
        values = episode.features[key]
        if not 0 <= int(values.min()) <= int(values.max()) < len(schema.texts):
            problems.append(
                Problem(
                    f"{key} of {episode.episode_id} points at no text",
                    f"{uri}, {episode.episode_id}, {key}",
                    f"its numbers run from {values.min()} to {values.max()}, the table has {len(schema.texts)} texts",
                    f"data.skip_episodes=[{episode.episode_id}], or add the text to the source's table",
                )
            )
    return problems


def span_findings(minimum: Mapping[str, Sequence[float]], maximum: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Constant and tiny-span dimensions, from the extremes of every feature."""
    findings = []
    for name in minimum:
        low, high = np.asarray(minimum[name], np.float64), np.asarray(maximum[name], np.float64)
        constant = np.flatnonzero(high == low)
        tiny = np.flatnonzero((high > low) & (high - low < TINY_SPAN))
        for kind, dims in (("constant", constant), ("tiny_span", tiny)):
            if len(dims):
                one = "s" if len(dims) == 1 else ""
                says = f"never change{one}" if kind == "constant" else f"span{one} less than {TINY_SPAN}"
                message = f"{_dims(dims)} of {len(low)} {says}"
                findings.append(Finding(kind, name, message, len(dims)))
    return findings


def action_findings(
    low: Sequence[float], high: Sequence[float], ids: Sequence[str], outside: np.ndarray
) -> list[Finding]:
    """Actions outside [-1, 1]; ``outside [E]`` is the number of dimensions that leave it, per episode."""
    lows, highs = np.asarray(low), np.asarray(high)
    dims = np.flatnonzero((lows < -1) | (highs > 1))
    if not len(dims):
        return []
    span = f"from {lows.min():.4g} to {highs.max():.4g}"
    return [
        Finding(
            "action_range",
            "action",
            f"{_dims(dims)} leave{'s' if len(dims) == 1 else ''} [-1, 1], {span}, in {_some(ids, outside > 0)}",
            len(dims),
        )
    ]


def task_findings(ids: Sequence[str], without: np.ndarray) -> list[Finding]:
    """Episodes without a task text; ``without [E]`` is bool."""
    message = f"there is no task text in {_some(ids, without)}"
    return [Finding("task", "task", message, int(without.sum()))] if without.any() else []


def timing_findings(ids: Sequence[str], ticks: Ticks, fps: float) -> list[Finding]:
    """Episodes whose timestamps do not follow the frame rate, or have gaps."""
    findings = []
    wrong = np.abs(ticks.mean_s * fps - 1) > WRONG_RATE
    for i in np.flatnonzero(wrong)[:MAX_LISTED]:
        message = f"its timestamps run at {1 / ticks.mean_s[i]:.4g} per second, the dataset says {fps:g}"
        findings.append(Finding("fps", ids[i], message))
    findings += _more("fps", int(wrong.sum()))
    gaps = (ticks.longest_s > GAP * np.where(wrong, ticks.mean_s, 1 / fps)) | (ticks.shortest_s <= 0)
    for i in np.flatnonzero(gaps)[:MAX_LISTED]:
        message = f"two timestamps are {ticks.longest_s[i]:.4g} s apart, a step is {1 / fps:.4g} s"
        if ticks.shortest_s[i] <= 0:
            message = "its timestamps do not grow from step to step"
        findings.append(Finding("timestamp_gap", ids[i], message))
    return findings + _more("timestamp_gap", int(gaps.sum()))


def length_findings(episode_ids: Sequence[str], lengths: np.ndarray) -> list[Finding]:
    """Episodes that are far longer or shorter than the median."""
    median = float(np.median(lengths))
    is_odd = (lengths > OUTLIER_FACTOR * median) | (lengths * OUTLIER_FACTOR < median)
    if len(lengths) >= FEWEST_LENGTHS:  # where all are about as long, less of a difference is odd
        below = np.log(max(median, 1.0)) - np.log(np.maximum(lengths, 1))
        spread = 1.4826 * float(np.median(np.abs(below)))
        is_odd |= below > max(np.log(SHORTER_FACTOR), LENGTH_SPREADS * spread)
    odd = np.flatnonzero(is_odd)
    return [
        Finding("length", episode_ids[i], f"{int(lengths[i])} steps, the median is {median:g}")
        for i in odd[:MAX_LISTED]
    ] + _more("length", len(odd))


def duplicate_findings(episode_ids: Sequence[str], fingerprints: np.ndarray) -> list[Finding]:
    """Episodes whose low-dimensional values are the same; ``fingerprints [E]`` are equal where these are."""
    _, first, which = np.unique(fingerprints, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[which] != np.arange(len(episode_ids)))
    return [
        Finding("duplicate", episode_ids[i], f"has the same values as {episode_ids[first[which[i]]]}")
        for i in again[:MAX_LISTED]
    ] + _more("duplicate", len(again))


def split_findings(splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Episodes that are both trained on and validated on."""
    both = sorted(set(splits.get("train", ())) & set(splits.get("valid", ())))
    message = f"{', '.join(both[:5])}{' ...' if len(both) > 5 else ''} are in train and in valid"
    return [Finding("split_overlap", "train", message, len(both))] if both else []


def _rows(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).reshape(len(values), -1)


def _print(episode: Episode) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(episode.features):
        digest.update(np.ascontiguousarray(episode.features[name]).data)
    return int.from_bytes(digest.digest(), "little")


def _outside(low: Mapping[str, np.ndarray], high: Mapping[str, np.ndarray]) -> int:
    if "action" not in low:
        return 0
    return int(((low["action"] < -1) | (high["action"] > 1)).sum())


def _some(ids: Sequence[str], chosen: np.ndarray) -> str:
    at = np.flatnonzero(chosen)
    names = ", ".join(ids[i] for i in at[:5])
    return f"{len(at)} of {len(ids)} episodes ({names}{', ...' if len(at) > 5 else ''})"


def _more(kind: str, num: int) -> list[Finding]:
    return [Finding(kind, "...", f"and {num - MAX_LISTED} more", num - MAX_LISTED)] if num > MAX_LISTED else []


def _dims(dims: np.ndarray) -> str:
    shown = ", ".join(str(int(each)) for each in dims[:8])
    return f"dimension{'s' if len(dims) > 1 else ''} {shown}{' ...' if len(dims) > 8 else ''}"
