"""What a store holds, by name: the same from a folder and from S3, whatever is missing or damaged in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tendon.errors import ConfigError
from tendon.registry.catalogue import KINDS, Row, list_runs, named, rows_of
from tendon.registry.names import STORE, address, chosen, find, policy_address
from tendon.storage import open_store
from tendon.storage.many import folders, read_notes
from tests.benchmarks.store_bench import in_bucket, make_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    make_runs(folder, 7)
    return folder


@pytest.fixture
def remote(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("tests.benchmarks.store_bench.LATENCY_S", 0.0)
    with in_bucket(runs) as (uri, env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        yield uri


def test_a_bucket_lists_as_a_folder_does(runs: Path, remote: str) -> None:
    for kind in KINDS:
        here, there = ([(row.name, row.id, row.when) for row in rows_of(kind, uri)] for uri in (str(runs), remote))
        assert here == there, kind
    assert len(list_runs(remote)) == 7
    for uri in (str(runs), remote):
        store = open_store(uri)
        assert folders(store, "") == ["champions", "runs", "trials"]
        assert folders(store, "runs/") == sorted(path.name for path in (runs / "runs").iterdir())
        assert folders(store, "absent/") == []


def test_damaged_and_missing_notes_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_runs(tmp_path, 3)
    first, second, third = sorted((tmp_path / "runs").iterdir())
    (first / "record.json").write_text('{"half')
    (second / "record.json").unlink()
    (third / "plan.json").unlink()  # never planned: not a run
    (tmp_path / "runs" / "stray.txt").write_text("x")
    rows = {row.id: row for row in list_runs(str(tmp_path))}
    assert set(rows) == {second.name}
    assert rows[second.name].n == 0
    assert rows[second.name].task == "Reach"
    assert "is ignored" in caplog.text
    assert read_notes(open_store(str(tmp_path)), ["none.json"]) == {}


def test_a_store_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    for kind in KINDS:
        assert rows_of(kind, str(tmp_path / "absent")) == []


def row(name: str, id: str) -> Row:
    return Row(f"{name}-{id[:6]}", id, f"store/runs/{id}", 0.0)


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("lift-bc-20260101-0000-aaaaaa", "a" * 16),  # whole
        ("lift-act", "b" * 16),  # its beginning
        ("aaaa", "a" * 16),  # of the hash
        ("lift-bc-20251231-2359-aaaaaa", "a" * 16),  # the time has changed since, the hash has not
        ("a" * 16, "a" * 16),
        ("other", None),
        ("aaa", None),  # too short
    ],
)
def test_what_a_text_names(text: str, id: str | None) -> None:
    rows = [row("lift-bc-20260101-0000", "a" * 16), row("lift-act-20260101-0000", "b" * 16)]
    found = chosen(text, rows, "store")
    assert (found.id if found else None) == id


def test_an_ambiguous_name_lists_what_it_could_be() -> None:
    rows = [row(f"lift-bc-2026010{k}-0000", f"{k}" * 16) for k in range(1, 10)]
    with pytest.raises(ConfigError) as error:
        chosen("lift-bc", rows, "store")
    (problem,) = error.value.problems
    assert problem.what == "lift-bc could be 9 things"
    assert all(one.name in problem.why for one in rows[:8])
    assert "and 1 more" in problem.why
    whole = [row("lift", "a" * 16), Row("lift", "c" * 16, "store/runs/c", 0.0)]
    assert chosen("lift", whole, "store").id == "c" * 16  # type: ignore[union-attr]


def test_addresses_stay_and_names_are_looked_up(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(STORE, str(runs))
    one = list_runs(str(runs))[0]
    for text in (
        "s3://bucket/a",
        "outputs/run",
        "./here",
        f"{runs}/runs/{one.id}",
        "demo://reach?episodes=1",
        "a b",
        "",
    ):
        assert address(text, ("runs",)) == text
    assert address(one.name, ("runs",)) == one.uri
    assert address(f"{runs}/runs/{one.name}", ("runs",)) == one.uri
    assert address(one.name, ("datasets",)) == one.name, "of another kind"
    Path(one.name).write_text("a file of that name comes first")
    assert address(one.name, ("runs",)) == one.name
    assert find("nothing-like-it", KINDS) is None
    Path(one.name).unlink()
    assert policy_address(one.name).startswith(f"{runs}/trials/"), "the winner of a run"
    assert policy_address("default") == rows_of("champions", str(runs))[0].bundle_uri  # type: ignore[attr-defined]


def test_names_are_plain() -> None:
    assert named(("my data/x", "bc"), 0.0, "abcdef0123") == "my-data-x-bc-abcdef"
    assert named(("lift",), 1767225600.0, "abcdef0123") == "lift-20260101-0000-abcdef"
