"""One page about many policies on the same seeds: a table with letters, and every pair. Called by ``tendon compare``."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from tendon.evaluate.many import Comparison
from tendon.report.page import closing, opening
from tendon.report.summary import ReportInputs


def render_comparison(found: Comparison, uris: Mapping[str, str], protocol: str, seeds: str, when: str) -> str:
    """The page; opens offline."""
    policies = "".join(
        f"<tr><td>{escape(one.name)}</td><td><b>{escape(one.letters)}</b></td>"
        f'<td class="num">{one.rate:.3f}</td><td class="num">{one.interval_95.low:.3f} to {one.interval_95.high:.3f}</td>'
        f'<td class="num">{one.successes}/{one.n}</td><td class="num">{one.trainings}</td>'
        f'<td class="num">{one.crashed}</td></tr>'
        for one in found.standings
    )
    duels = "".join(
        f"<tr><td>{escape(one.first)}</td><td>{escape(one.second)}</td>"
        f'<td class="num">{100 * one.difference:+.1f}</td>'
        f'<td class="num">{100 * one.interval.low:+.1f} to {100 * one.interval.high:+.1f}</td>'
        f'<td class="num">{one.p:.2g}</td><td class="num">{one.p_adjusted:.2g}</td>'
        f"<td>{'yes' if one.told_apart else 'no'}</td><td>{escape(one.test)}</td></tr>"
        for one in found.duels
    )
    where = "".join(f"<tr><th>{escape(name)}</th><td>{escape(uri)}</td></tr>" for name, uri in uris.items())
    rule = (
        f"The chance of calling any pair different that is not is at most {100 * (1 - found.level):.0f}%, over all pairs "
        "(Holm). Policies that share a letter cannot be told apart. Trained with several seeds, a configuration is judged "
        "by its mean."
    )
    return (
        f"{opening(ReportInputs(f'Comparison: {protocol}', when=when))}"
        f"<section><h2>{escape(found.sentence()[:1].upper() + found.sentence()[1:])}.</h2><p>{rule}</p><table>"
        "<tr><th>policy</th><th>group</th><th>success rate</th><th>95%</th><th>episodes</th><th>trainings</th>"
        f"<th>crashed</th></tr>{policies}</table><p>seeds {escape(seeds)}</p></section>\n"
        "<section><h2>Every pair</h2><table><tr><th>first</th><th>second</th><th>points</th><th>of all pairs, 95%</th>"
        f"<th>p</th><th>p over all</th><th>told apart</th><th>test</th></tr>{duels}</table></section>\n"
        f"<section><h2>Where they are</h2><table>{where}</table></section>\n{closing()}"
    )
