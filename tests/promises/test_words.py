"""What a command says: the nearest word, the configuration once, nothing when quiet, next lines that do something, exit codes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import submit
from tendon import doctor
from tendon.cli import EPILOG
from tendon.doctor import Check
from tendon.errors import EXIT_CODES
from tests.promises.conftest import Answer, Trained


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["trian"], "train"),
        (["weights", "inspct", "x"], "inspect"),
        (["sims", "lst"], "list"),
        (["train", "--dryrun"], "--dry-run"),
        (["gc", "--dataset-uri", "x", "--delte"], "--delete"),
        (["demo", "--task", "raech"], "reach"),
        (["submit", "wach", "r1"], "watch"),
        (["submit", "list", "--mots", "3"], "--most"),
    ],
)
def test_a_word_that_does_not_exist_has_its_nearest(tendon: Callable[..., Answer], words: list[str], near: str) -> None:
    answer = tendon(*words)
    assert answer.code == 2
    assert answer.problems() == 1
    assert f"did you mean {near}?" in answer.err


def next_line(out: str) -> str:
    return next((line.split("next", 1)[1].strip() for line in out.splitlines() if line.strip().startswith("next ")), "")


def test_the_configuration_is_printed_once(tendon: Callable[..., Answer], trained: Trained, tmp_path: Path) -> None:
    words = ["experiment=reach_bc", f"data.uri={trained.dataset}", "training.offline_steps=2", "training.batch_size=8"]
    loud = tendon("train", *words, "--store-uri", tmp_path / "a")
    assert loud.code == 0, loud.err
    for key in ("training.offline_steps", "policy.hidden_dims", "data.uri"):
        assert len(re.findall(rf"^\s*{re.escape(key)}\b", loud.out + loud.err, re.MULTILINE)) == 1, key
    quiet = tendon("train", *words, "--store-uri", tmp_path / "b", "--quiet")
    assert quiet.code == 0
    assert quiet.err == ""
    assert quiet.out.startswith("-- trained ")


@pytest.mark.parametrize("name", ["demo-data", "convert", "stats", "export", "evaluate", "gc", "inspect"])
def test_quiet_is_quiet(tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, name: str) -> None:
    words: dict[str, list[object]] = {
        "demo-data": ["env=reach", "--episodes", 2, "-o", tmp_path / "a.hdf5"],
        "convert": ["--source-uri", trained.demos, "--store-uri", tmp_path],
        "stats": ["--dataset-uri", trained.dataset],
        "export": ["--checkpoint-uri", trained.checkpoint, "--bundle-uri", trained.bundle],
        "evaluate": ["--bundle-uri", trained.bundle, "eval.n_episodes=1", "eval.videos=0", "--output-uri", tmp_path],
        "gc": ["--dataset-uri", trained.dataset],
        "inspect": [trained.dataset],
    }
    answer = tendon(name, *words[name], "--quiet")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    assert answer.out


def test_next_lines_do_something(tendon: Callable[..., Answer], trained: Trained, tmp_path: Path) -> None:
    """Each is taken as it is printed, and goes on to the next."""
    shown = tendon("demo-data", "env=reach", "--episodes", 2, "-o", tmp_path / "a.hdf5")
    planned = tendon(*shlex.split(next_line(shown.out))[1:], "--plan")
    assert planned.code == 0, planned.err
    shown = tendon("demo-data", "env=reach", "--episodes", 2, "--format", "shards", "-o", tmp_path / "shards")
    tried = tendon(*shlex.split(next_line(shown.out))[1:], "--dry-run", "training.num_threads=1")
    assert tried.code == 0, tried.err
    shown = tendon("convert", "--source-uri", trained.demos, "--store-uri", tmp_path)
    shown = tendon(*shlex.split(next_line(shown.out))[1:])
    assert shown.code == 0, shown.err
    tried = tendon(*shlex.split(next_line(shown.out))[1:], "--dry-run", "training.num_threads=1")
    assert tried.code == 0, tried.err


def test_there_is_no_next_line_for_nothing(tendon: Callable[..., Answer], trained: Trained) -> None:
    assert tendon("gc", "--yes", "--dataset-uri", trained.dataset).code == 0
    nothing = tendon("gc", "--dataset-uri", trained.dataset)
    assert nothing.code == 0
    assert "objects  0" in nothing.out
    assert not next_line(nothing.out)
    (trained.dataset / "shards" / "left.tar").write_bytes(b"x")
    left = tendon("gc", "--dataset-uri", trained.dataset)
    assert next_line(left.out).startswith("tendon gc --yes")
    assert tendon(*shlex.split(next_line(left.out))[1:]).code == 0
    assert not (trained.dataset / "shards" / "left.tar").exists()


@pytest.mark.parametrize(("failed", "code"), [("store", 4), ("packages: core", 5), ("video", 5)])
def test_the_exit_codes_of_the_doctor_stand_in_the_table(
    tendon: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, failed: str, code: int
) -> None:
    monkeypatch.setattr(doctor, "run_checks", lambda **given: [Check(failed, "FAIL", "it is not there", "mend it")])
    answer = tendon("doctor")
    assert answer.code == code
    assert code in EXIT_CODES
    assert f"  {code:<3} {EXIT_CODES[code]}" in EPILOG


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_any_number_of_workers(tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, count: str) -> None:
    answer = tendon("convert", "--source-uri", trained.demos, "--store-uri", tmp_path, "--workers", count)
    assert answer.code == (0 if count == "0" else 2), answer.err
    if count == "0":
        (made,) = tmp_path.rglob("manifest.json")
        assert made.read_bytes() == (trained.dataset / "manifest.json").read_bytes()
    else:
        assert answer.problems() == 1


@pytest.mark.parametrize("uri", ["https://example.com/lift.hdf5", "http://example.com/data", "hf://datasets/a/b"])
@pytest.mark.parametrize("words", [("convert", "--store-uri", "x", "--source-uri"), ("inspect",)], ids=lambda w: w[0])
def test_a_source_of_the_web_is_told_plainly(
    tendon: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], uri: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = tendon(*words, uri)
    assert answer.code == 2
    assert answer.problems() == 1
    assert "not read from the web" in answer.err
    assert ("hf download" if uri.startswith("hf") else f"curl -LO {uri}") in answer.err
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_is_headed_by_its_first_cause_and_names_its_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tendon", "run", "--quiet", "env=reach", "policy=bc"]
    command += ["--source-uri", "absent.hdf5", "--store-uri", "store"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 3, done.stderr
    first, *_, last = done.stderr.strip().splitlines()
    assert first.startswith("error: ")
    assert "absent.hdf5" in done.stderr
    assert last.startswith("page:  ")
    page = Path(last.removeprefix("page:  "))
    assert page.is_file()
    assert first.removeprefix("error: ") in page.read_text()
    lines = done.stdout.splitlines()
    assert all(line.startswith("[") for line in lines), "what steps say is in their logs"
    assert [line for line in lines if "FAILED" in line]


def test_ctrl_c_of_submit_says_that_the_run_goes_on(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.pipelines.fake_kfp import Kubeflow

    server = Kubeflow().serve()
    try:
        server.script = ["RUNNING"]

        def stopped(seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("pipelines.client.watching.time.sleep", stopped)
        for words in (["submit", "--again"], ["watch", "r1"]):
            with pytest.raises(SystemExit) as left:
                submit.main([words[0], "--host", server.url, *words[1:]])
            told = capfd.readouterr().err
            assert left.value.code == 75
            assert "continues" not in told, "the same command would start another run, or none"
            assert " watch r1" in told
            assert " cancel r1" in told
        monkeypatch.setattr("pipelines.client.runs._start", lambda *given: stopped(0))
        with pytest.raises(SystemExit):
            submit.main(["submit", "--again", "--host", server.url])
        told = capfd.readouterr().err
        assert "continues" not in told
        assert " list " in told
    finally:
        server.shutdown()
        server.server_close()
