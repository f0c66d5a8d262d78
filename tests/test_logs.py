"""Log lines, progress and end card, as a terminal and as a pod see them."""

from __future__ import annotations

import io
import logging
import re
import sys
import threading
from collections.abc import Iterator

import pytest

from tendon import logs
from tendon.errors import ConfigError
from tendon.logs import Progress, duration, end_card


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """What stands on the screen after everything that was written."""
        lines, column = [""], 0
        for letter in self.getvalue():
            if letter == "\r":
                column = 0
            elif letter == "\n":
                lines.append("")
                column = 0
            else:
                lines[-1] = lines[-1][:column] + letter + lines[-1][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("tendon")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers, level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


def use_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 120) -> Terminal:
    """Called in the body of a test: pytest puts its own stderr in place between fixture and body."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    return screen


def test_the_line_is_lerobots(capsys: pytest.CaptureFixture[str]) -> None:
    log = logs.setup("train")
    log.info("step:0 loss:%.3f", 1.1118)
    line = capsys.readouterr().err
    assert re.fullmatch(r"INFO \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S{15} step:0 loss:1\.112\n", line)
    assert "st_logs.py:" in line


def test_a_short_place_is_right_aligned() -> None:
    record = logging.LogRecord("x", logging.WARNING, "a.py", 7, "hello", (), None)
    assert logs.Format().format(record).endswith("          a.py:7 hello")


def test_one_handler_however_often(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().addHandler(logging.StreamHandler())
    for _ in range(3):
        logs.setup("train")
    logging.getLogger("tendon.data").info("once")
    logging.getLogger("someone.else").info("not at all")
    logging.getLogger("someone.else").warning("foreign")
    text = capsys.readouterr().err
    assert text.count("once") == 1
    assert "not at all" not in text
    assert "foreign" in text


def test_quiet_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("train", quiet=True).info("hidden")
    logs.setup("train", level="debug").debug("seen")
    assert capsys.readouterr().err.count("seen") == 1
    with pytest.raises(ConfigError, match="unknown log level LOUD"):
        logs.setup("train", level="LOUD")


def test_a_traceback_follows_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("deep")
    except ValueError:
        logs.setup("train").exception("it broke")
    assert re.search(r"it broke\nTraceback .*\n(.*\n)+ValueError: deep\n", capsys.readouterr().err)


def test_a_pod_gets_a_line_at_once_every_30_s_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("convert")
    clock = Clock()
    with Progress("convert", 200, "episodes", clock=clock) as progress:
        for _ in range(100):
            clock.now += 1
            progress.advance(2, {"MB/s": "12.1"})
    lines = capsys.readouterr().err.splitlines()
    messages = [line.split(maxsplit=4)[4] for line in lines]
    assert messages == [
        "convert 0/200 episodes (0%)",
        "convert 60/200 episodes (30%) 2.0/s eta 1 min 10 s MB/s:12.1",
        "convert 120/200 episodes (60%) 2.0/s eta 40 s MB/s:12.1",
        "convert 180/200 episodes (90%) 2.0/s eta 10 s MB/s:12.1",
        "convert 200/200 episodes (100%) 2.0/s MB/s:12.1 done in 1 min 40 s",
    ]
    assert "\r" not in "".join(lines)
    assert all("st_logs.py:" in line for line in lines), "the line names who works, not the logger"


def test_a_resumed_step_counts_its_rate_from_where_it_began(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("train")
    clock = Clock()
    with Progress("train", 1000, "steps", start=900, clock=clock) as progress:
        clock.now = 40.0
        progress.set(910)
        assert "910/1000 steps (91%) 4.0 s each eta 6 min 00 s" in capsys.readouterr().err


def test_an_unknown_total_and_an_early_end(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("copy")
    clock = Clock()

    def stop_early() -> None:
        with Progress("copy", None, "files", clock=clock) as progress:
            clock.now = 2.0
            progress.advance()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop_early()
    assert capsys.readouterr().err.splitlines()[-1].endswith("copy 1 files 2.0 s each stopped in 2.0 s")
    with Progress("copy", 0, "files"):
        pass
    assert "copy 0/0 files done in" in capsys.readouterr().err


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    logs.setup("train", quiet=True)
    with Progress("train", 2, "steps") as progress:
        progress.advance(2)
    assert terminal.getvalue() == capsys.readouterr().err == ""


def test_a_terminal_gets_one_live_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    log = logs.setup("train")
    clock = Clock()
    with Progress("train", 100, "steps", clock=clock) as progress:
        for step in range(100):
            clock.now += 1
            progress.advance(1, {"loss": f"{1 / (step + 1):.2f}"})
            if step == 49:
                log.warning("in between")
                assert terminal.screen()[-1].startswith(
                    "train [##########..........] 50/100 steps (50%) 1.0/s eta 50 s loss:0.02"
                )
    assert "train [##########" in terminal.getvalue()
    first, bar, end = terminal.screen()
    assert first.endswith(" in between")
    assert bar == "train [####################] 100/100 steps (100%) 1.0/s loss:0.01 done in 1 min 40 s"
    assert end == ""


def test_a_bar_never_wraps_and_is_not_drawn_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch, columns=40)
    logs.setup("train")
    clock = Clock()
    with Progress("train", 1000, "steps", clock=clock) as progress:
        for _ in range(1000):
            clock.now += 0.001
            progress.advance(1, {"a": "x" * 50})
    assert max(len(line) for line in terminal.screen()) < 40
    assert terminal.getvalue().count("\r") < 15


def test_threads_lose_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    log = logs.setup("convert")
    with Progress("convert", 8 * 500, "episodes") as progress:

        def work() -> None:
            for index in range(500):
                progress.advance(1, {"at": index})
                if index % 100 == 0:
                    log.info("line")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert progress.done == 4000
    *lines, bar, _ = terminal.screen()
    assert len(lines) == 40
    assert all(line.endswith(" line") for line in lines)
    assert "4000/4000 episodes (100%)" in bar


def test_durations() -> None:
    assert [duration(one) for one in (4.21, 200, 7500)] == ["4.2 s", "3 min 20 s", "2 h 05 min"]


def test_end_card() -> None:
    card = end_card("trained bc on lift in 3 min 20 s", [("checkpoint", "out/last"), ("steps", 2000)], "tendon export")
    assert card.splitlines()[1:] == [
        "   checkpoint  out/last",
        "   steps       2000",
        "   next        tendon export",
    ]
    assert card.startswith("-- trained bc on lift in 3 min 20 s ---")
    assert "next" not in end_card("x", [])
