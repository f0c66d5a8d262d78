"""One page about a dataset or a source, before anything was trained: the report's figures of data, and every fact.

An Inspection comes in, HTML goes out that opens offline; called by commands.inspect.
"""

from __future__ import annotations

from html import escape

from tendon.data.inspect import FeatureView, Inspection
from tendon.report.page import closing, figure_block, opening
from tendon.report.plots_data import action_spread, data_sane
from tendon.report.summary import DataSanity, Dimension, ReportInputs


def render_dataset(found: Inspection, damage: tuple[str, ...] = ()) -> str:
    """The page; ``damage`` is what a verification found."""
    actions = next((each for each in found.features if each.name == "action"), None)
    lines = (*damage, *(problem.what for problem in found.problems), *map(str, found.findings))
    data = DataSanity(
        tuple(int(length) for length in found.lengths),
        int(found.lengths.sum()),
        tuple(_dimensions(actions)) if actions else (),
        lines,
    )
    inputs = ReportInputs(f"Data: {found.uri.rstrip('/').rpartition('/')[2]}", data=data)
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in found.facts)
    splits = "".join(f"<tr><td>{escape(n)}</td><td>{e:,}</td><td>{s:,}</td></tr>" for n, e, s in found.splits)
    features = "".join(
        f"<tr><td>{escape(each.name)}</td><td>{escape(each.dtype)} {list(each.shape)}</td>"
        f"<td>{float(each.low.min()):.4g}</td><td>{float(each.high.max()):.4g}</td></tr>"
        for each in found.features
    )
    cameras = "".join(f"<li>{escape(each)}</li>" for each in (*found.cameras, *found.masks))
    cameras += "".join(
        f"<li>{each.episodes:,} episodes: {escape(each.text or '(no text)')}</li>" for each in found.texts
    )
    figures = "".join(figure_block(each) for each in (data_sane(inputs), action_spread(inputs)))
    return (
        f"{opening(inputs)}<section><h2>What it is</h2><table>{rows}</table></section>\n"
        f'<section id="figures"><h2>How it is spread</h2><div class="figures">{figures}</div></section>\n'
        f"<section><h2>Splits</h2><table><tr><th>split</th><th>episodes</th><th>steps</th></tr>{splits}</table></section>\n"
        f"<section><h2>Features</h2><table><tr><th>name</th><th>type</th><th>lowest</th><th>highest</th></tr>{features}"
        f"</table><ul>{cameras}</ul></section>\n{closing()}"
    )


def _dimensions(view: FeatureView) -> list[Dimension]:
    flags = ["constant" if low == high else "" for low, high in zip(view.low, view.high, strict=True)]
    return [
        Dimension(
            f"action[{d}]",
            low=float(view.low[d]),
            q01=float(view.q01[d]),
            mean=float(view.mean[d]),
            q99=float(view.q99[d]),
            high=float(view.high[d]),
            counts=tuple(int(n) for n in view.counts[d]),
            flag=flag,
        )
        for d, flag in enumerate(flags)
    ]
