"""A recording that was stopped goes on with the same command, and ends with the bytes of one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tendon.logs import Progress
from tests.promises.conftest import Answer, files_of

EPISODES, STOPPED_AT = 9, 5


def stop_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Ctrl-C, once so many episodes are recorded."""

    def follow(progress: Progress, done: int, total: int, unit: str = "") -> None:
        if total == EPISODES and done == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "follow", follow)


@pytest.mark.parametrize("format", ["robomimic", "lerobot", "shards"])
def test_an_interrupted_recording_continues(
    tendon: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    def record(folder: str) -> Answer:
        command = ["demo-data", "env=reach", "--episodes", EPISODES, "--format", format]
        return tendon(*command, "-o", tmp_path / folder / "made")

    assert record("whole").code == 0
    with monkeypatch.context() as patched:
        stop_at(patched, STOPPED_AT)
        stopped = record("parts")
    assert stopped.code == 75
    assert "run the same command again: it continues" in stopped.err
    kept = {path.name for path in (tmp_path / "parts").rglob("*.npz")}
    assert len(kept) >= STOPPED_AT, "what was recorded is kept"
    made_again = []
    attempt = _watched(monkeypatch, made_again)
    again = record("parts")
    assert again.code == 0, again.err
    assert attempt
    assert not {f"{seed}.npz" for seed in made_again} & kept, "no episode is recorded twice"
    whole, parts = files_of(tmp_path / "whole"), files_of(tmp_path / "parts")
    assert whole.keys() == parts.keys(), "nothing else is left"
    assert all(parts[name] == content for name, content in whole.items() if "timings" not in name)


def _watched(monkeypatch: pytest.MonkeyPatch, seeds: list[int]) -> bool:
    from tendon.evaluate import experts

    record = experts._attempt

    def watched(guest, seed, noise, states):  # type: ignore[no-untyped-def]
        seeds.append(seed)
        return record(guest, seed, noise, states)

    monkeypatch.setattr(experts, "_attempt", watched)
    return True


def test_other_noise_is_another_recording(
    tendon: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["demo-data", "env=reach", "--episodes", EPISODES]
    with monkeypatch.context() as patched:
        stop_at(patched, STOPPED_AT)
        assert tendon(*command, "-o", tmp_path / "a.hdf5").code == 75
    assert tendon(*command, "--noise", 0.2, "-o", tmp_path / "a.hdf5").code == 0
    assert tendon(*command, "--noise", 0.2, "-o", tmp_path / "b.hdf5").code == 0
    assert (tmp_path / "a.hdf5").read_bytes() == (tmp_path / "b.hdf5").read_bytes()


def test_what_begins_anew_does_not_say_that_it_continues(
    tendon: Callable[..., Answer], trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tendon.data.inspect.inspect_uri", stopped)
    answer = tendon("inspect", trained.dataset)
    assert answer.code == 75
    assert "continues" not in answer.err
