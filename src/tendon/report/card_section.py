"""The robustness card drawn, as a section of a page: a sentence, the clean arm, one row for each perturbation."""

from __future__ import annotations

from html import escape

from tendon.evaluate.confidence import describe_rate
from tendon.evaluate.robustness import Arm, Card
from tendon.report.svg import Canvas, Scale

WIDTH, HEIGHT = 190, 18
TONES = {"worse": "s1", "better": "s2", "cannot tell": "s6"}


def card_section(card: Card) -> str:
    """The section: a sentence, the clean arm, one row for each perturbation."""
    said = card.sentence()
    seeds = f"{card.first_seed} to {card.first_seed + card.episodes - 1}"
    rule = (
        "Each perturbation was played on the same seeds as the clean arm, so a difference is the perturbation's. Points are "
        "perturbed minus clean, with Tango's paired 95% interval; worse is said where McNemar's exact test says so over all "
        "rows together (Holm, 5%)."
    )
    names = ("perturbation", "success rate, 95%", "points, 95%", "", "lost / gained", "crashed", "verdict")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    clean = describe_rate(card.successes, card.n, card.crashed, card.block)
    rows = "".join(
        _unsupported(arm) if arm.unsupported else _played(arm)
        for arm in sorted(card.arms, key=lambda arm: bool(arm.unsupported))
    )
    return (
        f'<section id="card"><h2>How robust is it?</h2><p class="lede">{escape(said[:1].upper() + said[1:])}. '
        f'Clean arm: {escape(clean)}.</p><p class="small">{rule}</p>'
        f'<table class="card"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="source">{escape(card.task)}, {escape(card.block)} seeds {seeds}</p></section>\n'
    )


def _played(arm: Arm) -> str:
    low, high = (100 * end for end in arm.difference_95)
    bold = ("<b>", "</b>") if arm.verdict == "worse" else ("", "")
    return (
        f'<tr><td>{escape(arm.name)}<br><span class="small">{escape(arm.words)}</span></td>'
        f'<td class="rated">{arm.successes / max(1, arm.n):.2f} <span class="dim">{arm.interval_95.low:.2f}&ndash;'
        f"{arm.interval_95.high:.2f}, {arm.successes}/{arm.n}</span></td>"
        f'<td class="rated">{100 * arm.difference:+.0f} <span class="dim">({low:+.0f} to {high:+.0f})</span></td>'
        f'<td class="wide">{_bar(arm)}</td><td class="num">{arm.lost} / {arm.gained}</td><td class="num">{arm.crashed}</td>'
        f"<td>{bold[0]}{arm.verdict}{bold[1]}</td></tr>"
    )


def _unsupported(arm: Arm) -> str:
    return (
        f'<tr class="failed"><td>{escape(arm.name)}<br><span class="small">{escape(arm.words)}</span></td>'
        f'<td colspan="5" class="small">{escape(arm.unsupported)}</td><td>{arm.verdict}</td></tr>'
    )


def _bar(arm: Arm) -> str:
    """The difference and its interval on a line from -100 to +100 points."""
    canvas, middle = Canvas(WIDTH, HEIGHT), HEIGHT / 2
    x = Scale(-1, 1, 4, WIDTH - 4)
    canvas.line(x.start, middle, x.end, middle, "g")
    canvas.line(x(0), 1, x(0), HEIGHT - 1, "zero")
    tone = TONES[arm.verdict]
    canvas.line(x(arm.difference_95.low), middle, x(arm.difference_95.high), middle, f"w thick {tone}")
    canvas.marker(x(arm.difference), middle, 0, tone, 3.5)
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="xMinYMid"'
    return f'<svg {box} aria-hidden="true">{"".join(canvas.parts)}</svg>'
