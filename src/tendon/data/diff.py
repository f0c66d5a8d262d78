"""What two datasets have in common and what changed, episode by episode: from their indexes, nothing is decoded.

Episodes are matched by id. Called by ``tendon diff A B``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tendon.data.dataset import Dataset, open_dataset
from tendon.data.rows import EpisodeRow

PLACE = ("/offset", "shard")


@dataclass(frozen=True)
class Change:
    """One episode: ``kind`` is added, removed or changed; ``what`` says how."""

    episode_id: str
    kind: str
    what: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind:<8} {self.episode_id}" + (f": {'; '.join(self.what)}" if self.what else "")


@dataclass(frozen=True)
class Difference:
    """Of two datasets: what their manifests say, and every episode that is not the same in both."""

    first: str
    second: str
    manifest: tuple[str, ...]
    changes: tuple[Change, ...]
    same: int


def diff(first_uri: str, second_uri: str) -> Difference:
    """Compare two committed datasets.

    Raises:
        DataError: one of them is not there.

    Example:
        ``print(draw(diff("store/datasets/lift/8d61...", "store/datasets/lift/03fe...")))``
    """
    first, second = open_dataset(first_uri), open_dataset(second_uri)
    before, after = ({row.episode_id: row for row in each.rows} for each in (first, second))
    tables = [_Members(first), _Members(second)]
    changes, same = [], 0
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            changes.append(Change(name, "removed", (f"{before[name].length} steps",)))
        elif name not in before:
            changes.append(Change(name, "added", (f"{after[name].length} steps",)))
        elif what := _changes(before[name], after[name], *tables):
            changes.append(Change(name, "changed", what))
        else:
            same += 1
    return Difference(first.uri, second.uri, _manifest_changes(first, second), tuple(changes), same)


def draw(difference: Difference) -> str:
    """As text for a terminal."""
    lines = [f"A  {difference.first}", f"B  {difference.second}", *difference.manifest]
    lines += [str(each) for each in difference.changes]
    counts = {kind: sum(each.kind == kind for each in difference.changes) for kind in ("added", "removed", "changed")}
    lines.append(
        f"{difference.same} episodes are the same, " + ", ".join(f"{num} {kind}" for kind, num in counts.items())
    )
    return "\n".join(lines)


class _Members:
    """Sizes and checksums of everything an episode has, by column of the index."""

    def __init__(self, dataset: Dataset) -> None:
        names = [name for name in dataset.table.column_names if name.endswith(("/size", "/crc32c"))]
        self.columns = {name: dataset.table.column(name).to_pylist() for name in names}

    def of(self, row: EpisodeRow) -> dict[str, dict[str, Any]]:
        """Member to its size and checksum."""
        members: dict[str, dict[str, Any]] = {}
        for name, values in self.columns.items():
            member, _, kind = name.rpartition("/")
            if values[row.index] is not None:
                members.setdefault(member, {})[kind] = values[row.index]
        return members


def _changes(
    before: EpisodeRow, after: EpisodeRow, members_before: _Members, members_after: _Members
) -> tuple[str, ...]:
    what = [
        f"{name} {old!r} -> {new!r}"
        for name, old, new in (
            ("length", before.length, after.length),
            ("task", before.task, after.task),
            ("success", before.success, after.success),
            ("splits", sorted(before.splits), sorted(after.splits)),
        )
        if old != new
    ]
    old, new = members_before.of(before), members_after.of(after)
    what += [f"no {name} any more" for name in sorted(old.keys() - new.keys())]
    what += [f"{name} is new" for name in sorted(new.keys() - old.keys())]
    what += [f"the bytes of {name}" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    return tuple(what)


def _manifest_changes(first: Dataset, second: Dataset) -> tuple[str, ...]:
    options: list[Mapping[str, Any]] = [each.manifest.created_by.get("options", {}) for each in (first, second)]
    sources = [tuple(one.sha256[:16] for one in each.manifest.sources) for each in (first, second)]
    lines = [f"sources  {', '.join(sources[0])} -> {', '.join(sources[1])}"] if sources[0] != sources[1] else []
    lines += [
        f"option   {name}: {options[0].get(name)} -> {options[1].get(name)}"
        for name in sorted({*options[0], *options[1]})
        if options[0].get(name) != options[1].get(name)
    ]
    if first.schema != second.schema:
        keys = [{each.key for each in dataset.schema.features} for dataset in (first, second)]
        lines.append(f"schema   without {sorted(keys[0] - keys[1])}, with {sorted(keys[1] - keys[0])}")
    return tuple(lines)
