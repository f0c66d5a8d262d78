"""Everything the report shows, as values.

steps.report fills a ReportInputs from the run's files; page.py and text.py draw it.
Nothing here is optional by guess: an empty tuple, "" or None means "there is none", and the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tendon.curate.curation import Curation
from tendon.evaluate.confidence import Interval, LeaderboardRow, Pairs, describe_rate, difference_paired, wilson
from tendon.evaluate.robustness import Card
from tendon.registry.subset import SubsetDecision
from tendon.report.prediction import Predicted

Status = Literal["success", "failure", "crashed"]


@dataclass(frozen=True)
class Rate:
    """A success rate with all that must stand beside it."""

    label: str  # "winner", "champion"
    name: str  # trial or policy
    successes: int
    n: int
    crashed: int = 0
    block: str = "confirmation"

    @classmethod
    def of(cls, label: str, name: str, summary: Mapping[str, Any]) -> Rate:
        """From a summary.json."""
        return cls(label, name, summary["successes"], summary["n"], summary["crashed"], summary["block"])

    @property
    def value(self) -> float | None:
        """Share of successes; None when no episode finished."""
        return self.successes / self.n if self.n else None

    @property
    def interval_95(self) -> Interval:
        """Wilson's interval."""
        return wilson(self.successes, self.n)

    def __str__(self) -> str:
        return describe_rate(self.successes, self.n, self.crashed, self.block)


@dataclass(frozen=True)
class Difference:
    """Winner minus champion on the seeds that both finished."""

    value: float
    interval_95: Interval
    pairs: int

    @classmethod
    def of(cls, pairs: Pairs) -> Difference:
        """From the paired outcomes (winner first)."""
        return cls(pairs.difference, difference_paired(pairs), pairs.n)


@dataclass(frozen=True)
class Curve:
    """The losses of one trial as (step, loss)."""

    trial: str
    train: tuple[tuple[int, float], ...]
    valid: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Dimension:
    """How the values of one dimension are spread; ``counts`` are equal bins from low to high, empty if not counted."""

    name: str
    low: float
    q01: float
    mean: float
    q99: float
    high: float
    counts: tuple[int, ...] = ()
    flag: str = ""  # "constant", "tiny span"


@dataclass(frozen=True)
class DataSanity:
    """What was trained on, and what the checks found."""

    episode_lengths: tuple[int, ...]
    num_frames: int
    actions: tuple[Dimension, ...]
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How one confirmation episode of the winner ended, and after how many steps."""

    seed: int
    status: Status
    steps: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Ending:
        """From a row of episodes.jsonl."""
        return cls(int(row["seed"]), row["status"], int(row["steps"]))


@dataclass(frozen=True)
class Clip:
    """A recorded episode, H.264 in MP4."""

    status: Status
    seed: int
    steps: int
    mp4: bytes
    poster_jpeg: bytes = b""  # a still shown before it plays
    told: str = ""  # what the robot was told, where it was told anything


@dataclass(frozen=True)
class Timing:
    """Wall time of a step, of one trial where the step runs per trial."""

    step: str
    trial: str
    seconds: float
    gpus: int | None = None  # None: not recorded
    image: str = ""  # the container image it ran in, if any

    @property
    def gpu_hours(self) -> float:
        """Hours times GPUs held, as far as recorded."""
        return self.seconds * (self.gpus or 0) / 3600


@dataclass(frozen=True)
class Feed:
    """Where the time of a training step went, in mean seconds per step."""

    trial: str
    device: str
    wait_s: float
    compute_s: float

    @property
    def wait_share(self) -> float:
        """Share of a step spent waiting for data."""
        total = self.wait_s + self.compute_s
        return self.wait_s / total if total > 0 else 0.0


@dataclass(frozen=True)
class LineageRow:
    """One thing that was made: its digest or address, and the command that makes it again."""

    what: str
    digest: str
    command: str = ""


@dataclass(frozen=True)
class Stop:
    """A step that ended a run: what it said, where its log is, what repeats it, and what to do next."""

    step: str
    error: str  # the four lines
    log: str
    command: str
    next: str


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from, as short text; "" is left out."""

    dataset: str = ""
    episodes: str = ""  # digest of the episode list
    training_seed: str = ""
    selection_seeds: str = ""
    confirmation_seeds: str = ""
    policy: str = ""
    code: str = ""
    image: str = ""


@dataclass(frozen=True)
class FactGroup:
    """Names and values that belong together; ``more`` are shown when asked for."""

    title: str
    rows: tuple[tuple[str, str], ...]
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ReportInputs:
    """The whole report of one run, however far it got."""

    title: str
    run_id: str = ""
    when: str = ""
    verdict: str = ""  # the gate's sentence
    decision: str = ""  # promote | keep | cannot_tell | first
    rule: str = ""
    rates: tuple[Rate, ...] = ()  # winner first, then the champion
    difference: Difference | None = None
    stops: tuple[Stop, ...] = ()  # of a run that failed
    leaderboard: tuple[LeaderboardRow, ...] = ()
    curves: tuple[Curve, ...] = ()
    data: DataSanity | None = None
    endings: tuple[Ending, ...] = ()
    clips: tuple[Clip, ...] = ()
    timings: tuple[Timing, ...] = ()
    forecast: tuple[str, ...] = ()  # what plan said that it would take, in words
    feeds: tuple[Feed, ...] = ()
    lineage: tuple[LineageRow, ...] = ()
    facts: tuple[FactGroup, ...] = ()  # of the winner: hyperparameters, machine, versions, time and cost
    provenance: Provenance = Provenance()
    record_json: str = ""
    path: dict[str, Any] = field(default_factory=dict)  # of a test that looked after every pair: evaluate/betting.py
    videos_uri: str = ""  # where the recordings that are not shown lie
    predictions: tuple[Predicted, ...] = ()  # policies with their losses and their success rates
    subset: SubsetDecision | None = None  # of a run that was a curation
    curation: Curation | None = None
    card: Card | None = None  # the winner under perturbations, where that was asked for


def headline(inputs: ReportInputs) -> str:
    """The verdict sentence; without a verdict, how far the run got."""
    if inputs.verdict:
        return _sentence(inputs.verdict)
    board = inputs.leaderboard
    if board and not any(row.rank for row in board):
        who = {1: "The only trial", 2: "Both trials"}.get(len(board), f"All {len(board)} trials")
        return f"{who} failed: there is no policy to judge."
    if board:
        best = next(row for row in board if row.rank == 1)
        rate = describe_rate(best.successes, best.n, best.crashed, "selection")
        return f"No verdict yet: {best.name} leads with {rate}, and was not confirmed on fresh seeds."
    return "No verdict: the run ended before any policy was evaluated."


def decision_in_words(inputs: ReportInputs) -> str:
    """The decision as a label."""
    words = {"promote": "Promote", "first": "First champion", "keep": "Keep", "cannot_tell": "Cannot tell"}
    return words.get(inputs.decision, "Failed" if inputs.stops else "No verdict")


def dimension(name: str, values: Sequence[float], bins: int = 32) -> Dimension:
    """Spread of one dimension, counted into ``bins``; float64."""
    import numpy as np

    column = np.asarray(values, dtype=np.float64)
    low, high = float(column.min()), float(column.max())
    q01, q99 = (float(q) for q in np.quantile(column, [0.01, 0.99]))
    counts = np.histogram(column, bins=bins, range=(low, high))[0] if high > low else np.array([], dtype=int)
    flag = "constant" if high == low else ""
    return Dimension(name, low, q01, float(column.mean()), q99, high, tuple(int(c) for c in counts), flag)


def _sentence(words: str) -> str:
    words = words.strip()
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")
