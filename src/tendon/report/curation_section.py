"""Which episodes a curation left out, why, and whether that was confirmed: a section of the page of its run."""

from __future__ import annotations

from html import escape

from tendon.curate.curation import Curation
from tendon.curate.ranking import Ranked
from tendon.registry.subset import SubsetDecision

MOST = 400  # rows; the JSON beside the sweep has them all


def curation_section(decision: SubsetDecision, curation: Curation | None) -> str:
    """The decision, both rates, then the episodes that were left out and those that were kept."""
    said = decision.sentence
    rates = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(rate)}</td></tr>"
        for name, rate in ((decision.all_trial, decision.all_rate), (decision.subset_trial, decision.subset_rate))
    )
    episodes = _ranked(curation) if curation else _named(decision)
    return (
        f'<section id="curation"><h2>Which episodes stay out?</h2><p class="lede">{escape(said[:1].upper() + said[1:])}.</p>'
        '<p class="small">Both trials were confirmed on the same seeds, which neither ranking nor selection saw. The subset is kept '
        "only when its policy is confirmed not worse; else the policy of all episodes stands.</p>"
        f"<table><thead><tr><th>trained on</th><th>success rate</th></tr></thead><tbody>{rates}</tbody></table>{episodes}</section>\n"
    )


def _ranked(curation: Curation) -> str:
    out = [one for one in curation.episodes if one.left_out]
    kept = [one for one in curation.episodes if not one.left_out]
    how = (
        f"{curation.rule[:1].upper()}{curation.rule[1:]}. Ranked by {curation.folds} policies ({curation.policy}, {curation.steps:,} "
        f"steps), each of which never saw the episodes that it ranks{_again(curation)}; influence over {curation.checkpoints} checkpoints."
    )
    return (
        f'<p class="small">{escape(how)}</p><h3>Left out: {len(out)}</h3>{_table(out)}'
        f"<details><summary>Kept: {len(kept)}</summary>{_table(kept)}</details>"
    )


def _again(curation: Curation) -> str:
    return ", and in the end none that had been left out before" if curation.rounds > 1 else ""


def _table(episodes: list[Ranked]) -> str:
    names = ("episode", "steps", "held-out loss", "of untrained", "influence", "score", "why")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><td>{escape(one.episode_id)}</td><td class="num">{one.length}</td><td class="num">{one.loss:.3g}</td>'
        f'<td class="num">{one.loss_left:.2f}</td><td class="num">{one.influence:+.2f}</td><td class="num">{one.score:.1f}</td>'
        f"<td>{escape('; '.join(one.reasons or one.findings))}</td></tr>"
        for one in episodes[:MOST]
    )
    more = f'<p class="small">{len(episodes) - MOST} more are in curation.json.</p>' if len(episodes) > MOST else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _named(decision: SubsetDecision) -> str:
    names = ", ".join(decision.left_out[:MOST])
    return f'<p class="small">No ranking of them is in this store. Left out: {escape(names)}.</p>'
