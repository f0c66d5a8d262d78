"""A robustness card as a page of its own that opens offline. Called by ``tendon evaluate ... perturb=standard``."""

from __future__ import annotations

import json
from datetime import datetime, timezone

from tendon.evaluate.robustness import Card
from tendon.report.card_section import card_section
from tendon.report.page import _download, closing, opening
from tendon.report.summary import ReportInputs


def render_card(card: Card, bundle_uri: str) -> str:
    """The page."""
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    data = _download("the card as JSON", "card.json", "application/json", json.dumps(card.to_dict(), indent=1))
    title = f"Robustness of {bundle_uri}"
    return f"{opening(ReportInputs(title, when=when))}{card_section(card)}<section>{data}</section>\n{closing()}"
