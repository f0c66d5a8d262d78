"""Every verb takes a checkpoint by its folder, its ``pretrained_model`` and ``last``, here and on S3, and writes where it was told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tendon.storage import open_store
from tests.promises.conftest import NUM_STEPS, Answer, Trained, files_of

STEP = f"checkpoints/{NUM_STEPS:06d}"
FORMS = (STEP, f"{STEP}/pretrained_model", "checkpoints/last", "checkpoints/last/pretrained_model")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["here", "s3"])
def test_weights_inspect_takes_every_form(
    tendon: Callable[..., Answer], trained: Trained, in_s3: str, place: str, form: str
) -> None:
    answer = tendon("weights", "inspect", f"{trained.trial if place == 'here' else in_s3}/{form}")
    assert answer.code == 0, answer.err
    assert "policy    bc" in answer.out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["here", "s3"])
def test_train_takes_the_configuration_of_every_form(
    tendon: Callable[..., Answer], trained: Trained, in_s3: str, tmp_path: Path, place: str, form: str
) -> None:
    uri = f"{trained.trial if place == 'here' else in_s3}/{form}"
    answer = tendon("train", "--config-dir", uri, "--run-uri", tmp_path / "absent", "--trial", "x")
    assert answer.code == 3, "the run is asked first"
    answer = tendon("train", "--config-dir", uri, "training.offline_steps=none")
    assert answer.code == 2
    assert "training.offline_steps" in answer.err
    assert answer.problems() == 1, answer.err


def test_a_trial_goes_on_from_last(tendon: Callable[..., Answer], trained: Trained, in_s3: str, tmp_path: Path) -> None:
    common = ["experiment=reach_bc", f"data.uri={trained.dataset}", "training.offline_steps=2", "training.batch_size=8"]
    for number, uri in enumerate((trained.trial, in_s3)):
        begins = f"policy.init_from={uri}/checkpoints/last/pretrained_model"
        answer = tendon("train", *common, begins, "--dry-run", "--store-uri", tmp_path / str(number))
        assert answer.code == 0, answer.err
    goes_on = [f"training.resume_from={in_s3}/checkpoints/last", "training.offline_steps=6"]
    answer = tendon("train", *common[:2], "training.batch_size=8", *goes_on, "--store-uri", tmp_path / "on")
    assert answer.code == 0, answer.err


def test_export_finds_the_same_checkpoint(tendon: Callable[..., Answer], trained: Trained, in_s3: str) -> None:
    marked = (trained.bundle / ".complete.json").stat().st_mtime_ns
    for form in FORMS:
        answer = tendon("export", "--checkpoint-uri", trained.trial / form, "--bundle-uri", trained.bundle)
        assert answer.code == 0, answer.err
        assert "found finished" in answer.err
    assert (trained.bundle / ".complete.json").stat().st_mtime_ns == marked
    made = tendon("export", "--checkpoint-uri", f"{in_s3}/{FORMS[3]}", "--bundle-uri", f"{in_s3}/other")
    assert made.code == 0, made.err
    assert f"--bundle-uri {in_s3}/other" in made.out


def test_weights_export_takes_last(tendon: Callable[..., Answer], trained: Trained, in_s3: str, tmp_path: Path) -> None:
    for number, uri in enumerate((trained.trial, in_s3)):
        words = ["weights", "export", f"{uri}/{FORMS[2]}", "--format", "safetensors", "-o", tmp_path / str(number)]
        answer = tendon(*words)
        assert answer.code == 0, answer.err
    assert files_of(tmp_path / "0") == files_of(tmp_path / "1")


def test_evaluate_and_compare_take_a_checkpoint(
    tendon: Callable[..., Answer], trained: Trained, in_s3: str, tmp_path: Path
) -> None:
    rates = []
    for uri in (trained.bundle, f"{in_s3}/{FORMS[1]}", f"{trained.trial}/{FORMS[2]}"):
        words = ["--bundle-uri", uri, "eval.n_episodes=2", "eval.videos=0", "--output-uri", tmp_path / "evaluations"]
        answer = tendon("evaluate", *words)
        assert answer.code == 0, answer.err
        rates.append(next(line for line in answer.out.splitlines() if line.strip().startswith("rate")))
    assert len(set(rates)) == 1
    answer = tendon("compare", f"{in_s3}/{FORMS[3]}", f"{in_s3}/{FORMS[2]}", "eval.n_episodes=2", "eval.videos=0")
    assert answer.code == 0, answer.err
    assert "already the champion" in answer.out, "they are one policy"


def test_an_address_without_a_checkpoint_is_told_as_it_was_given(
    tendon: Callable[..., Answer], trained: Trained
) -> None:
    answer = tendon("export", "--checkpoint-uri", trained.trial / "checkpoints/000003", "--bundle-uri", "b")
    assert answer.code == 3
    assert str(trained.trial / "checkpoints/000003") in answer.err


# ---------------------------------------------------------------------------------------------- what is read stays as it is


READING = (
    ("stats", "--dataset-uri"),
    ("select", "--run-uri"),
    ("confirm", "--run-uri"),
    ("report", "--run-uri"),
    ("promote", "--run-uri"),
    ("gc", "--dataset-uri"),
    ("inspect",),
    ("evaluate", "--bundle-uri"),
    ("weights", "inspect"),
    ("export", "--bundle-uri", "out/bundle", "--checkpoint-uri"),
    ("export-data", "--to", "robomimic"),
    ("train", "experiment=reach_bc", "--store-uri", "out"),
)


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_a_wrong_address_stays_empty(
    tendon: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = tmp_path / "wrong"
    given: list[object] = [f"data.uri={wrong}"] if words[0] == "train" else [wrong]
    answer = tendon(*words, *given, *(["out/x.hdf5"] if words[0] == "export-data" else []))
    assert answer.code in (2, 3), answer.err
    assert answer.problems() == 1
    assert not wrong.exists(), files_of(wrong)


def test_a_dataset_is_not_written_by_what_reads_it(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.dataset, copy)
    shutil.rmtree(copy / "stats", ignore_errors=True)
    shutil.rmtree(copy / "timings", ignore_errors=True)
    before = files_of(copy)
    words = ["experiment=reach_bc", f"data.uri={copy}", "training.offline_steps=2", "training.batch_size=8"]
    for option in (["--dry-run"], []):
        answer = tendon("train", *words, *option, "--store-uri", tmp_path / "store")
        assert answer.code == 0, answer.err
    assert tendon("inspect", copy, "--verify").code == 0
    assert tendon("gc", "--dataset-uri", copy).code == 0
    assert files_of(copy) == before


def test_evaluating_a_foreign_folder_writes_nothing_beside_it(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tendon import steps

    monkeypatch.chdir(tmp_path)
    made = []
    monkeypatch.setattr("tendon.weights.foreign.recognised", lambda path: type("Format", (), {"name": "any"}))
    monkeypatch.setattr(
        "tendon.export.foreign.import_weights", lambda path, uri, *rest: (made.append(uri), ("", ()))[1]
    )
    (tmp_path / "read" / "policy").mkdir(parents=True)
    shutil.copy(trained.bundle / "model.safetensors", tmp_path / "read" / "policy")
    steps.bundle_of(str(tmp_path / "read" / "policy"), [])
    assert len(made) == 1
    assert not made[0].startswith(str(tmp_path / "read"))


def test_a_plan_creates_nothing(tendon: Callable[..., Answer], trained: Trained, tmp_path: Path) -> None:
    words = ["run", "--plan", "experiment=reach_bc", "--source-uri", trained.demos, "--store-uri", tmp_path / "store"]
    assert tendon(*words).code == 0
    assert not (tmp_path / "store").exists()
    assert not list(open_store(str(tmp_path)).list())
