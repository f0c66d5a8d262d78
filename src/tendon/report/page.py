"""The report as one HTML text that opens offline, in a browser or in a sandboxed frame, on a phone or a desk.

ReportInputs come in, a page below 5 MB goes out; steps.report writes it beside the record and as the HTML artifact.
Everything from outside is escaped here, and the page's own policy forbids every request.
"""

from __future__ import annotations

import base64
import re
from html import escape
from itertools import chain, zip_longest
from urllib.parse import quote

from tendon.evaluate.confidence import Interval, LeaderboardRow
from tendon.report.card_section import card_section
from tendon.report.curation_section import curation_section
from tendon.report.figure import Figure
from tendon.report.plots import figures
from tendon.report.style import CSS, SCRIPT
from tendon.report.summary import Clip, FactGroup, Rate, ReportInputs, Stop, decision_in_words, headline
from tendon.report.svg import Canvas, Scale, whole

MOST_BYTES = 5_000_000
MOST_DATA_CHARS = 500_000  # of one table or of the record
MOST_ERROR_CHARS = 2_000
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; media-src data:; "
    "base-uri 'none'; form-action 'none'"
)


def render(inputs: ReportInputs) -> str:
    """The page; clips that would push it over 5 MB are left out and the page says so."""
    before = opening(inputs) + verdict_card(inputs) + _stops(inputs)
    if inputs.stops and not inputs.leaderboard:  # it did not get to any policy: eight empty figures would say nothing
        return before + lineage_section(inputs) + closing()
    card = card_section(inputs.card) if inputs.card else ""
    if inputs.subset:
        card = curation_section(inputs.subset, inputs.curation) + card
    after = (
        _leaderboard(inputs)
        + card
        + _figures(figures(inputs))
        + facts_section(inputs.facts)
        + lineage_section(inputs)
        + closing()
    )
    room = MOST_BYTES - len((before + after).encode()) - 4_000
    shown, left_out = _that_fit(inputs.clips, room)
    return before + _clips(inputs, shown, left_out) + after


def opening(inputs: ReportInputs) -> str:
    """A page up to its first section."""
    about = " &middot; ".join(escape(part) for part in (inputs.run_id and f"run {inputs.run_id}", inputs.when) if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(inputs.title)}</title><style>{CSS}</style></head>\n<body>"
        f"<header><h1>{escape(inputs.title)}</h1><p>{about}</p></header>\n<main>\n"
    )


def verdict_card(inputs: ReportInputs, label: str = "") -> str:
    """What it came to, in a sentence, with its rates and where they come from; ``label`` instead of the decision's."""
    tone = inputs.decision if inputs.decision in ("promote", "first", "keep", "cannot_tell") else "none"
    tone = "keep" if label else tone
    said = re.sub(r"[\d.]+-[\d.]+", r'<span class="nb">\g<0></span>', escape(headline(inputs)))
    rule = f'<p class="rule">Rule: {escape(inputs.rule)}.</p>' if inputs.rule else ""
    two = " two" if len(inputs.rates) > 1 else ""
    rates = f'<div class="rates{two}">{"".join(map(_rate, inputs.rates))}</div>' if inputs.rates else ""
    return (
        f'<div class="verdict {tone}" role="region" aria-label="Verdict"><p class="tag">{label or decision_in_words(inputs)}</p>'
        f'<p class="say">{said}</p>{rule}{rates}{_trace(inputs)}</div>\n'
    )


def _stops(inputs: ReportInputs) -> str:
    if not inputs.stops:
        return ""
    return f'<section id="stops"><h2>What stopped it</h2>{"".join(map(_stop, inputs.stops))}</section>\n'


def _stop(stop: Stop) -> str:
    log = f"<p>Its log: <code>{escape(stop.log)}</code></p>" if stop.log else ""
    again = f"<p>By hand:</p>{_command(stop.command)}" if stop.command else ""
    error = stop.error[:MOST_ERROR_CHARS] + (" ..." if len(stop.error) > MOST_ERROR_CHARS else "")
    return (
        f'<h3>{escape(stop.step)}</h3><pre class="error">{escape(error)}</pre>'
        f"<p><b>Next:</b> {escape(stop.next)}</p>{log}{again}"
    )


def _rate(rate: Rate) -> str:
    value, _, rest = str(rate).partition(" (")
    bar = _bar(rate.interval_95, rate.value, 260, 26) if rate.value is not None else ""
    return (
        f'<div class="rate"><p class="who">{escape(rate.label)}: {escape(rate.name)}</p>'
        f'<span class="big">{value}</span><span>{bar}</span>'
        f'<p class="rest">{_unbroken("success rate (" + rest)}</p></div>'
    )


def _unbroken(words: str) -> str:
    """Escaped text that wraps only after a comma."""
    return ", ".join(f'<span class="nb">{escape(part)}</span>' for part in words.split(", "))


def _bar(interval: Interval, value: float, width: int, height: int) -> str:
    """A rate and its interval on a line from 0 to 1."""
    canvas, middle = Canvas(width, height), height / 2
    x = Scale(0, 1, 6, width - 6)
    canvas.line(x.start, middle, x.end, middle, "g")
    for end in (x.start, x.end):
        canvas.line(end, middle - 4, end, middle + 4, "a")
    canvas.line(x(interval.low), middle, x(interval.high), middle, "w thick s0")
    canvas.marker(x(value), middle, 0, "s0", height / 5)
    box = f'viewBox="0 0 {width} {height}" preserveAspectRatio="xMinYMid"'
    return f'<svg {box} aria-hidden="true">{"".join(canvas.parts)}</svg>'


def _trace(inputs: ReportInputs) -> str:
    """Where the numbers of the card come from."""
    source = inputs.provenance
    named = (
        ("seeds", source.confirmation_seeds or source.selection_seeds),
        ("episodes", source.episodes),
        ("policy", source.policy),
        ("code", source.code),
        ("image", source.image),
    )
    parts = [f"<span><b>{name}</b> {escape(value)}</span>" for name, value in named if value]
    if inputs.lineage and not inputs.stops:
        parts.append('<button data-to="lineage">how each was made</button>')
    return f'<div class="trace">{"".join(parts)}</div>' if parts else ""


def _that_fit(clips: tuple[Clip, ...], room: int) -> tuple[list[Clip], int]:
    """Clips in the order they are kept (a success, a failure, a success, ...) while they fit, and how many do not."""
    kinds = [[clip for clip in clips if clip.status == status] for status in ("success", "failure", "crashed")]
    kept = []
    for clip in chain.from_iterable(zip_longest(*kinds)):
        if clip is not None and (size := 4 * (len(clip.mp4) + len(clip.poster_jpeg)) // 3 + 600) <= room:
            kept.append(clip)
            room -= size
    return kept, len(clips) - len(kept)


def _clips(inputs: ReportInputs, shown: list[Clip], left_out: int) -> str:
    notes = []
    if left_out:
        where = f" They are in {inputs.videos_uri}." if inputs.videos_uri else ""
        noun = "clip was" if left_out == 1 else "clips were"
        notes.append(f"{left_out} {noun} left out to keep this page below 5 MB.{where}")
    if not shown:
        said = " ".join(notes) or "No episode was recorded."
        return f'<section><h2>What it does</h2><p class="lede">{escape(said)}</p></section>\n'
    groups = []
    for status, name in (("success", "Successes"), ("failure", "Failures"), ("crashed", "Crashed")):
        of_kind = [clip for clip in shown if clip.status == status]
        if of_kind:
            videos = "".join(map(_clip, of_kind))
            groups.append(f'<div class="kind"><h3>{name}</h3><div class="row">{videos}</div></div>')
    failed = [ending for ending in inputs.endings if ending.status == "failure"]
    if inputs.endings and not failed:
        notes.append("No finished episode failed, so there is no failure to show.")
    two = " two" if len(groups) > 1 else ""
    lede = "The first recorded episodes of each kind in seed order; nobody chose them."
    if any(clip.poster_jpeg for clip in shown):
        lede += " Each still shows how the episode ended."
    words = escape(" ".join([lede, *notes]))
    return (
        f'<section><h2>What it does</h2><p class="lede">{words} <button data-play>play all</button></p>'
        f'<div class="clips{two}">{"".join(groups)}</div></section>\n'
    )


def _clip(clip: Clip) -> str:
    data = base64.b64encode(clip.mp4).decode()
    still = base64.b64encode(clip.poster_jpeg).decode()
    poster = f' poster="data:image/jpeg;base64,{still}"' if still else ""
    label = f"{clip.status}, seed {clip.seed}, {clip.steps} steps"
    told = f"<br>told: {escape(clip.told)}" if clip.told else ""
    return (
        f'<figure><video muted loop playsinline controls preload="metadata" aria-label="{escape(label)}"{poster} '
        f'src="data:video/mp4;base64,{data}"></video>'
        f"<figcaption>{_unbroken(f'seed {clip.seed}, {clip.steps} steps')}{told}</figcaption></figure>"
    )


def _leaderboard(inputs: ReportInputs) -> str:
    board = inputs.leaderboard
    if not board:
        return '<section id="board"><h2>Leaderboard</h2><p class="lede">No trial was evaluated.</p></section>\n'
    failed = sum(1 for row in board if not row.rank)
    lede = "Ranked by success rate on the selection seeds, then by fewer mean steps; a verdict rests on other seeds."
    if any(row.letters for row in board):
        lede += " Trials that share a letter cannot be told apart (95% over all pairs)."
    if failed == len(board):
        lede = "No trial came through; each says in which step it failed, and why."
    elif failed:
        lede += f" {failed} of {len(board)} trials failed and {'is' if failed == 1 else 'are'} listed last."
    numbers = ("n", "crashed", "mean steps", "points behind, 95%")
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", "trial", "success rate, 95%", ""))
    head += "".join(f'<th scope="col" class="num">{name}</th>' for name in numbers)
    head = "" if failed == len(board) else f"<thead><tr>{head}</tr></thead>"
    rows = "".join(_ranked(row) if row.rank else _failed(row, open_=failed <= 3) for row in board)
    source = inputs.provenance.selection_seeds
    origin = f'<p class="source">selection seeds {escape(source)}</p>' if source else ""
    return (
        f'<section id="board"><h2>Leaderboard</h2><p class="lede">{lede}</p><table class="board">{head}'
        f"<tbody>{rows}</tbody></table>{origin}</section>\n"
    )


def _group(row: LeaderboardRow) -> str:
    """Its letters, and the mean of its configuration."""
    mean = f", mean of its seeds {row.configuration_rate:.2f}" if row.configuration_rate is not None else ""
    return f' <span class="dim">{escape(row.letters)}{mean}</span>' if row.letters or mean else ""


def _ranked(row: LeaderboardRow) -> str:
    low, high = row.interval_95 or (0.0, 1.0)
    behind = ""
    if row.behind is not None and row.behind_95:
        near, far = -row.behind_95.high, -row.behind_95.low
        behind = f'{whole(-100 * row.behind)} <span class="dim">({whole(100 * near)} to {whole(100 * far)})</span>'
    won = ' class="won"' if row.rank == 1 else ""
    bar = _bar(Interval(low, high), row.rate or 0.0, 130, 14)
    return (
        f'<tr{won}><td>{row.rank}</td><td>{escape(row.name)}{_group(row)}</td><td class="rated">{row.rate:.2f} '
        f'<span class="dim">{low:.2f}&ndash;{high:.2f}</span></td><td class="wide">{bar}</td>'
        f'<td class="num more">{row.successes}/{row.n}</td>'
        f'<td class="num more" data-unit=" crashed">{row.crashed}</td>'
        f'<td class="num more" data-unit=" steps">{row.mean_steps or 0:.0f}</td>'
        f'<td class="num more" data-unit=" points behind">{behind}</td></tr>'
    )


def _failed(row: LeaderboardRow, *, open_: bool) -> str:
    error = row.error.strip()
    if len(error) > MOST_ERROR_CHARS:
        error = error[:MOST_ERROR_CHARS] + " ..."
    told = f'<pre class="error">{escape(error)}</pre>' if error else ""
    if told and not open_:
        told = f"<details><summary>error</summary>{told}</details>"
    return (
        f'<tr class="failed"><td>&times;</td><td>{escape(row.name)}</td>'
        f'<td class="wide" colspan="6">failed in {escape(row.failed_step)}{told}</td></tr>'
    )


def _figures(drawn: tuple[Figure, ...]) -> str:
    placed = "".join(map(figure_block, drawn))
    answered = sum(bool(figure.desk) for figure in drawn[:8])  # the others are drawn only where there is something
    lede = (
        f"The same eight for every run; this one answers {answered}. Each has its numbers below it, to read or to save."
    )
    head = f'<h2>Eight questions about the run</h2><p class="lede">{lede}</p>'
    return f'<section id="figures">{head}<div class="figures">{placed}</div></section>\n'


def figure_block(figure: Figure) -> str:
    """A figure with its question, its answer, and its numbers to save."""
    head = f"<figcaption><h3>{escape(figure.question)}</h3></figcaption>"
    if not figure.desk:
        return f'<figure id="fig-{figure.name}">{head}<p class="no">{escape(figure.answer)}</p></figure>'
    kind = "findings" if figure.name == "data" else "notes"
    notes = "".join(f"<li>{escape(note)}</li>" for note in figure.notes)
    notes = f'<ul class="{kind}">{notes}</ul>' if notes else ""
    source = f'<p class="source">From {escape(figure.source)}.</p>' if figure.source else ""
    return (
        f'<figure id="fig-{figure.name}">{head}<p>{escape(figure.answer)}</p>'
        f'<div class="plot"><div class="phone">{figure.phone}</div><div class="desk">{figure.desk}</div></div>'
        f"{notes}{source}{_download('data', figure.name + '.csv', 'text/csv', figure.csv)}</figure>"
    )


def _download(label: str, name: str, kind: str, text: str) -> str:
    """A link that saves the data and, where saving is forbidden (a sandboxed frame), a place to read and copy it."""
    if len(text) > MOST_DATA_CHARS:
        return f'<p class="source">{name} is too long to show here; its numbers are in the run folder.</p>'
    link = f'<a download="{name}" href="data:{kind};charset=utf-8,{quote(text)}">save {name}</a>'
    return f"<details><summary>{label}</summary>{link}<pre data-csv></pre></details>"


def facts_section(groups: tuple[FactGroup, ...], title: str = "What won, and on what it was made") -> str:
    """Hyperparameters, machine, versions, time and cost, side by side."""
    if not groups:
        return ""
    drawn = []
    for group in groups:
        more = ""
        if group.more:
            more = f"<details><summary>all {len(group.more)} settings</summary><table>{_pairs(group.more)}</table></details>"
        drawn.append(f"<div><h3>{escape(group.title)}</h3><table>{_pairs(group.rows)}</table>{more}</div>")
    return f'<section id="facts"><h2>{escape(title)}</h2><div class="factgroups">{"".join(drawn)}</div></section>\n'


def _pairs(rows: tuple[tuple[str, str], ...]) -> str:
    return "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)


def lineage_section(inputs: ReportInputs) -> str:
    """What every number rests on, and the commands that make it again."""
    if not inputs.lineage and not inputs.record_json:
        return ""
    rows = "".join(
        f"<div><dt>{escape(row.what)}</dt><dd>{f'<p class=digest>{escape(row.digest)}</p>' if row.digest else ''}"
        f"{_command(row.command)}</dd></div>"
        for row in inputs.lineage
    )
    text = inputs.record_json
    record = _download("the whole record", "record.json", "application/json", text) if text else ""
    title, lede = "How each was made", "What every number above rests on, and the command that makes it again."
    if inputs.stops:
        title, lede = "What is there", "A run with the same parameters finds it again, and repeats none of it."
    return (
        f'<section id="lineage"><h2>{title}</h2><p class="lede">{lede}</p>'
        f'<dl class="made">{rows}</dl>{record}</section>\n'
    )


def _command(command: str) -> str:
    """A command that may wrap between words and inside addresses, never inside an option's name."""
    if not command:
        return ""
    words = (f'<span class="nb">{escape(w)}</span>' if w.startswith("--") else escape(w) for w in command.split(" "))
    return f'<div class="cmd"><code>{" ".join(words)}</code><button data-copy>copy</button></div>'


def closing() -> str:
    """A page from its last section on."""
    words = "Made by Tendon. Rates: Wilson intervals. Same seeds: Tango's paired interval. Trials: Newcombe's."
    return f"</main>\n<footer><p>{words}</p></footer>\n<script>{SCRIPT}</script></body></html>\n"
