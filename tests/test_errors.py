"""A failure is four lines and an exit code that means something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tendon import errors
from tendon.errors import EXIT_CODES, ConfigError, Problem, TendonError, reported


def kinds() -> list[type[TendonError]]:
    return [kind for kind in TendonError.__subclasses__() if kind.__module__ == TendonError.__module__]


def test_every_kind_has_a_documented_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in kinds()]
    assert len(codes) == len(set(codes)) == 6
    assert {0, 1, *codes} == set(EXIT_CODES)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_a_user_sees_four_lines_and_no_traceback(kind: type[TendonError], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, reported("train"):
        raise kind("what", where="place", why="reason", fix="repair")
    assert left.value.code == kind.exit_code
    assert capsys.readouterr().err == "error: what\nwhere: place\nwhy:   reason\nfix:   repair\n"


def test_several_problems_are_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem(f"what {index}", "place", "reason", "repair") for index in range(3)]
    error = ConfigError.of(problems)
    assert isinstance(error, ConfigError)
    assert error.problems == tuple(problems)
    with pytest.raises(SystemExit) as left, reported("plan"):
        raise error
    assert left.value.code == 2
    assert capsys.readouterr().err.count("error: what") == 3


def test_debug_shows_the_traceback_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), reported("train", debug=True):
        raise ConfigError("what", where="place", why="reason", fix="repair")
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_leaves_its_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(errors.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as left, reported("convert"):
        raise ZeroDivisionError("by zero\nand more")
    assert left.value.code == 1
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert len(text.splitlines()) == 4
    assert "ZeroDivisionError: by zero" in text
    (file,) = re.findall(r"traceback in (\S+\.log)", text)
    assert "Traceback" in Path(file).read_text()
    assert Path(file).parent == tmp_path


def test_ctrl_c_is_resumable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, reported("train"):
        raise KeyboardInterrupt
    assert left.value.code == 75
    assert "run the same command again" in capsys.readouterr().err


def test_success_passes_through() -> None:
    with reported("train"):
        pass
    with pytest.raises(SystemExit) as left, reported("train"):
        raise SystemExit(3)
    assert left.value.code == 3
