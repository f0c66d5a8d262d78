"""Nothing is replaced without ``--force``, and a place that cannot be written is told in four lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tendon.storage import open_store
from tests.promises.conftest import Answer, Trained, files_of

RECORD = ("demo-data", "env=reach", "--episodes", "2")


def commands(trained: Trained) -> dict[str, list[object]]:
    """What takes an address to make, last."""
    return {
        "demo-data": [*RECORD, "-o"],
        "demo-data as lerobot": [*RECORD, "--format", "lerobot", "-o"],
        "weights export": ["weights", "export", trained.checkpoint, "--format", "safetensors", "-o"],
        "inspect": ["inspect", trained.dataset, "--html"],
        "export-data": ["export-data", trained.dataset, "--to", "robomimic"],
    }


NAMES = ("demo-data", "demo-data as lerobot", "weights export", "inspect", "export-data")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_there_is_replaced_with_force_only(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, name: str
) -> None:
    command, target = commands(trained)[name], tmp_path / "made.safetensors"
    target.write_text("mine")
    refused = tendon(*command, target)
    assert refused.code == 2, refused.err
    assert refused.problems() == 1
    assert "--force" in refused.err
    assert target.read_text() == "mine"
    answer = tendon(*command, target, "--force")
    assert answer.code == 0, answer.err
    assert target.is_dir() or target.read_bytes() != b"mine"
    left = {path.name for path in tmp_path.iterdir()} - {"made.safetensors"}
    assert left <= {"made.safetensors.md", "made.safetensors.parity.json"}, left


def test_the_card_beside_a_recording_is_not_replaced(tendon: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "a.hdf5.md").write_text("my notes")
    assert tendon(*RECORD, "-o", tmp_path / "a.hdf5").code == 2
    assert (tmp_path / "a.hdf5.md").read_text() == "my notes"


@pytest.mark.parametrize("name", ["demo-data", "export-data"])
def test_in_a_bucket_too(tendon: Callable[..., Answer], trained: Trained, s3_uri: str, name: str) -> None:
    command, store = commands(trained)[name], open_store(s3_uri)
    store.write("made.hdf5", b"mine")
    assert tendon(*command, f"{s3_uri}/made.hdf5").code == 2
    assert store.read("made.hdf5") == b"mine"
    answer = tendon(*command, f"{s3_uri}/made.hdf5", "--force")
    assert answer.code == 0, answer.err
    assert store.read("made.hdf5")[1:4] == b"HDF"


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_cannot_be_written_is_four_lines(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    answer = tendon(*commands(trained)[name], tmp_path / "file" / "deep" / "made")
    assert answer.code == 4, answer.err
    assert answer.problems() == 1
    assert str(tmp_path / "file") in answer.err


@pytest.mark.parametrize(
    "words",
    [
        ("run", "experiment=reach_bc", "--source-uri", "demo://reach?episodes=2", "--store-uri"),
        ("convert", "--source-uri", "demo://reach?episodes=2", "--store-uri"),
        ("train", "experiment=reach_bc", "training.offline_steps=2", "DATASET", "--store-uri"),
        ("evaluate", "--bundle-uri", "BUNDLE", "eval.n_episodes=1", "--output-uri"),
        ("evaluate", "--bundle-uri", "BUNDLE", "eval.n_episodes=1", "--output-uri", "GOOD", "--eval-info"),
        ("sweep", "SWEEP", "--config", "JSON", "--script"),
    ],
    ids=lambda words: " ".join(word for word in words if word.islower() or word.startswith("--")),
)
def test_a_store_that_cannot_be_written_is_four_lines(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "sweep.json").write_text('[{"key": "train.seed", "name": "", "group": 0, "values": [1]}]')
    (tmp_path / "base.json").write_text('{"algo_name": "bc", "train": {"data": "x.hdf5"}, "experiment": {"name": "a"}}')
    named = {
        "DATASET": f"data.uri={trained.dataset}",
        "BUNDLE": trained.bundle,
        "GOOD": tmp_path / "good",
        "SWEEP": tmp_path / "sweep.json",
        "JSON": tmp_path / "base.json",
    }
    answer = tendon(*(named.get(word, word) for word in words), tmp_path / "file" / "store")
    assert answer.code == 4, answer.err + answer.out
    assert answer.problems() == 1
    assert files_of(tmp_path)["file"] == b"no folder"


@pytest.mark.parametrize("name", ["evaluate", "compare"])
def test_files_of_an_evaluation_are_replaced_with_force_only(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "out"
    command: list[object] = [
        "evaluate",
        "--bundle-uri",
        trained.bundle,
        "--output-uri",
        tmp_path / "tables",
        "--eval-info",
    ]
    if name == "compare":
        command = ["compare", trained.bundle, trained.bundle, "-o"]
    command += [folder, "eval.n_episodes=2", "eval.videos=1"]
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    made = "eval_info.json" if name == "evaluate" else "compare.html"
    (folder / made).write_text("mine")
    refused = tendon(*command)
    assert refused.code == 2, refused.err
    assert refused.problems() == 1
    assert "--force" in refused.err
    assert files_of(folder) == {"mine.txt": b"mine", made: b"mine"}
    assert not (tmp_path / "tables").exists(), "it is told before anything is rolled out"
    answer = tendon(*command, "--force")
    assert answer.code == 0, answer.err
    assert files_of(folder)[made] != b"mine"
    assert files_of(folder)["mine.txt"] == b"mine"


@pytest.mark.parametrize("verb", ["export", "weights import"])
def test_a_folder_of_other_files_is_not_emptied_for_a_bundle(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, verb: str
) -> None:
    """What a bundle does not hold was removed from its folder."""
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("mine")
    command: list[object] = ["export", "--checkpoint-uri", trained.checkpoint]
    if verb == "weights import":
        assert (
            tendon(
                "weights", "export", trained.checkpoint, "--format", "safetensors", "-o", tmp_path / "a.safetensors"
            ).code
            == 0
        )
        command = ["weights", "import", tmp_path / "a.safetensors", "env=reach"]
    refused = tendon(*command, "--bundle-uri", tmp_path / "papers")
    assert refused.code == 2, refused.err
    assert refused.problems() == 1
    assert "thesis.tex" in refused.err
    assert files_of(tmp_path / "papers") == {"thesis.tex": b"mine"}
