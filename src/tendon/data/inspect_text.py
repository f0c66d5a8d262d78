"""An Inspection as text for a terminal: tables, and histograms one character high. Pure; called by commands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tendon.data.inspect import Inspection

BARS = " ▁▂▃▄▅▆▇█"
MOST_DIMS = 16  # rows per feature
MOST_TEXTS = 20


def draw(inspection: Inspection) -> str:
    """The text."""
    parts = [_table([list(row) for row in inspection.facts])]
    if inspection.splits:
        parts.append("splits\n" + _table([[n, f"{e:,} episodes", f"{s:,} steps"] for n, e, s in inspection.splits]))
    if len(inspection.lengths):
        counts, edges = np.histogram(inspection.lengths, 24)
        parts.append(
            f"episode lengths   {int(edges[0])} |{spark(counts)}| {int(edges[-1])} steps, median {np.median(inspection.lengths):g}"
        )
    rows = []
    for each in inspection.features:
        stored = f"{each.dtype} {list(each.shape)}" if each.shape else each.dtype
        rows.append([each.name, f"{stored}, {each.kind}", "", "", ""])
        for d in range(min(len(each.low), MOST_DIMS)):
            low, mean, high = (f"{float(values[d]):.4g}" for values in (each.low, each.mean, each.high))
            rows.append([f"  [{d}]", low, f"|{spark(each.counts[d])}|", high, f"mean {mean}"])
        if len(each.low) > MOST_DIMS:
            rows.append([f"  and {len(each.low) - MOST_DIMS} more dimensions", "", "", "", ""])
    parts.append("features\n" + _table(rows))
    if inspection.cameras:
        parts.append("cameras\n" + "\n".join(f"  {each}" for each in inspection.cameras))
    if inspection.masks:
        parts.append("masks\n" + "\n".join(f"  {each}" for each in inspection.masks))
    if inspection.texts:
        parts.append("texts\n" + _table([*_text_rows(inspection)]))
    parts.append(_findings(inspection))
    return "\n\n".join(parts)


def _text_rows(inspection: Inspection) -> Iterator[list[str]]:
    """The texts that are used most."""
    by_use = sorted(inspection.texts, key=lambda each: (-each.episodes, -each.steps))
    for each in by_use[:MOST_TEXTS]:
        used = [f"{each.episodes:,} episodes"] if each.episodes or not each.steps else []
        used += [f"{each.steps:,} steps"] if each.steps else []
        yield [", ".join(used), each.text or "(empty)"]
    if len(by_use) > MOST_TEXTS:
        yield [f"and {len(by_use) - MOST_TEXTS:,} more", ""]


def spark(counts: np.ndarray) -> str:
    """A histogram as one line; what is there at all is seen."""
    top = max(int(counts.max()), 1)
    return "".join(BARS[0 if not n else max(1, round(8 * int(n) / top))] for n in counts)


def _findings(inspection: Inspection) -> str:
    if not inspection.findings and not inspection.problems:
        return "findings: none"
    kinds: dict[str, int] = {}
    for each in inspection.findings:
        kinds[each.kind] = kinds.get(each.kind, 0) + each.count
    head = ", ".join(f"{num} {kind.replace('_', ' ')}" for kind, num in kinds.items())
    lines = [f"findings: {head}" if head else "findings: none"]
    for each in inspection.findings:
        frames = f", steps {each.frames[0]} to {each.frames[1] - 1}" if each.frames else ""
        lines += [f"  {each}{frames}"] + ([f"    |{each.picture}|"] if each.picture else [])
    if inspection.problems:
        lines.append(f"{len(inspection.problems)} problems that stop a conversion")
        lines += [f"  {each.what} ({each.where})" for each in inspection.problems]
    return "\n".join(lines)


def _table(rows: list[list[str]]) -> str:
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(len(rows[0]) if rows else 0)]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )
