"""Divides one memory budget among the parts of a loader, and chooses the cheapest tier of frames that fits. Pure.

Tiers: ``resident`` decodes every frame once and keeps it; ``block`` decodes a frame once per epoch; ``window`` keeps
frames encoded and decodes those that a window asks for. Rows are steps; a row holds the low-dimensional features and,
where frames are kept decoded, one frame of each camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tendon.errors import ConfigError

Tier = Literal["resident", "block", "window"]
READ_AT_ONCE = 4 << 20  # bytes of a request
SMALL = 1 << 20


@dataclass(frozen=True)
class Needs:
    """What a loader needs, in bytes and counts."""

    rows: int  # steps of all episodes
    live_rows: int  # of the episodes that the order reads from at the same time
    lowdim_row: int  # bytes
    frame_row: int  # bytes of the decoded frames of a step
    encoded: int  # bytes of all members
    live_encoded: int
    batch: int  # bytes
    tables: int  # bytes of the order and the index
    largest_rows: int  # of a unit
    largest_encoded: int
    decodes_per_epoch: float  # frames that windows ask for, over frames that exist


@dataclass(frozen=True)
class Shares:
    """How much memory each part may use."""

    tier: Tier
    rows: int
    encoded: int  # bytes kept encoded; 0 unless the tier is window
    in_flight: int  # bytes being read
    ring: int  # batches


def share_out(needs: Needs, budget: int, ring: int, fetches: int, tier: Tier | Literal["auto"] = "auto") -> Shares:
    """Divide the budget.

    Raises:
        ConfigError: not even one batch fits; says how much would do.
    """
    options: list[Tier] = ["resident", "block", "window"] if tier == "auto" else [tier]
    if not needs.frame_row and tier == "auto":
        options.remove("window")
    elif tier == "auto" and needs.decodes_per_epoch <= 1:
        options = ["resident", "window", "block"]
    ring = max(2, ring)
    while ring > 2 and (ring * needs.batch > budget / 2):
        ring -= 1
    fixed = ring * needs.batch + needs.tables
    least_in_flight = needs.largest_encoded
    wanted = min(max(budget // 8, least_in_flight), fetches * max(READ_AT_ONCE, least_in_flight))
    for attempt in options:
        row = needs.lowdim_row + (0 if attempt == "window" else needs.frame_row)
        kept = needs.encoded if attempt == "window" else 0
        live = needs.live_encoded if attempt == "window" else 0
        for in_flight in (wanted, least_in_flight):
            left = budget - fixed - in_flight
            if needs.rows * row + kept <= left:
                return Shares(attempt, needs.rows, kept, in_flight, ring)
            if attempt != "resident" and needs.live_rows * row + live <= left:
                spare = left - needs.live_rows * row - live  # keeps more of what comes back next epoch
                more = min(needs.rows, needs.live_rows + int(spare * row / max(row + live / needs.live_rows, 1) // row))
                return Shares(attempt, more, int(left - more * row) if live else 0, in_flight, ring)
    ring, fixed = 2, 2 * needs.batch + needs.tables
    return _squeezed(needs, budget, ring, fixed, least_in_flight, options[-1] if tier == "auto" else tier)


def _squeezed(needs: Needs, budget: int, ring: int, fixed: int, in_flight: int, tier: Tier) -> Shares:
    """Too little for the episodes in use at a time: units are loaded again and again, which is slow but correct."""
    if needs.frame_row and tier != "block":
        tier = "window"
    elif tier == "resident":
        tier = "block"
    row = needs.lowdim_row + (0 if tier == "window" else needs.frame_row)
    kept = needs.largest_encoded if tier == "window" else 0
    least = fixed + in_flight + needs.largest_rows * row + kept
    if least > budget:
        raise ConfigError(
            "the memory budget is too small for one batch",
            where="loader, memory_budget",
            why=f"it is {budget / SMALL:.1f} MiB; {ring} batches of {needs.batch / SMALL:.2f} MiB, the order's tables and "
            f"the largest unit of episodes need {least / SMALL:.1f} MiB",
            fix=f"give at least {-(-least // SMALL)} MiB ({least} bytes), or a smaller batch",
        )
    left = budget - fixed - in_flight
    rows = max(needs.largest_rows, int(left * (0.5 if kept else 1.0) // max(row, 1)))
    if kept:  # encoded members matter more than rows, which come with them
        per_row = needs.encoded / max(needs.rows, 1)
        rows = max(needs.largest_rows, min(needs.rows, int(left / max(row + per_row, 1))))
        kept = max(kept, int(left - rows * row))
    return Shares(tier, min(rows, needs.rows), kept, in_flight, ring)
