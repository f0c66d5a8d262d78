"""The report's first lines for a terminal: verdict, rates and leaderboard in plain text.

ReportInputs come in, text goes out; cli.py prints it as the end card of ``tendon run``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tendon.evaluate.confidence import LeaderboardRow, describe_rate
from tendon.report.summary import ReportInputs, headline


def end_card(inputs: ReportInputs, width: int = 88) -> str:
    """Verdict, rates with intervals, leaderboard."""
    blocks = [textwrap.fill(headline(inputs), width)]
    if inputs.rates:
        widest = max(len(rate.label) for rate in inputs.rates)
        blocks.append("\n".join(f"{rate.label:<{widest}}  {rate}  {rate.name}" for rate in inputs.rates))
    if inputs.leaderboard:
        blocks.append(leaderboard_text(inputs.leaderboard))
    return "\n\n".join(blocks) + "\n"


def leaderboard_text(board: Sequence[LeaderboardRow]) -> str:
    """The trials as aligned lines, failed ones last with the first line of their error."""
    lines = []
    widest = max((len(row.name) for row in board), default=0)
    for row in board:
        if row.rank:
            rate = describe_rate(row.successes, row.n, row.crashed, "selection")
            lines.append(f"{row.rank:>3}  {row.name:<{widest}}  {rate}  {row.mean_steps or 0:.0f} steps")
        else:
            why = (row.error.strip().splitlines() or [""])[0].removeprefix("error: ")
            lines.append(f"  x  {row.name:<{widest}}  failed in {row.failed_step}: {why}".rstrip(": "))
    return "\n".join(lines)
