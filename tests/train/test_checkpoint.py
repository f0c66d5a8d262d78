from __future__ import annotations

import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from tendon.errors import ConfigError, DataError, StorageError
from tendon.storage import join, open_store
from tendon.train.state.checkpoint import (
    commit,
    complete,
    config_folder,
    fetch,
    named_step,
    read_newest,
    step_name,
)
from tests.train.small_trial import run


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uri = tmp_path_factory.mktemp("trial")
    run(uri)
    return uri


def newest(trial: Path, folder: Path) -> str | None:
    return read_newest(open_store(str(trial)), folder)


def files_of(trial: Path) -> list[str]:
    root = trial / "checkpoints/000040"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_layout(trial: Path, tmp_path: Path) -> None:
    assert files_of(trial) == [
        ".complete.json",
        "pretrained_model/config.yaml",
        "pretrained_model/model.safetensors",
        "pretrained_model/policy.json",
        "pretrained_model/stats.json",
        "training_state/loader_state.json",
        "training_state/optimizer_param_groups.json",
        "training_state/optimizer_parameters.json",
        "training_state/optimizer_state.safetensors",
        "training_state/rng_state.safetensors",
        "training_state/scheduler_state.json",
        "training_state/training_step.json",
    ]
    assert (trial / "checkpoints/last").readlink() == Path("000040")
    assert (trial / "checkpoints/last/pretrained_model/config.yaml").is_file()
    assert complete(open_store(str(trial))) == ["000040", "000030"]
    assert newest(trial, tmp_path) == "000040"


def test_a_checkpoint_cut_at_any_byte_is_passed_over(trial: Path, tmp_path: Path) -> None:
    """Each file is cut at many lengths, one byte of it is changed, it is taken away: the older checkpoint is read."""
    damaged = tmp_path / "damaged"
    shutil.copytree(trial, damaged)
    for name in files_of(trial):
        path = damaged / "checkpoints/000040" / name
        whole = path.read_bytes()
        lengths = range(len(whole)) if name == ".complete.json" else {0, 1, len(whole) // 2, len(whole) - 1}
        for length in lengths:
            path.write_bytes(whole[:length])
            assert complete(open_store(str(damaged))) == ["000030"], (name, length)
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        path.write_bytes(changed)
        assert newest(damaged, tmp_path / "a") == "000030", name
        path.unlink()
        assert newest(damaged, tmp_path / "b") == "000030", name
        path.write_bytes(whole)
    assert newest(damaged, tmp_path / "c") == "000040"


def test_a_damaged_file_is_named(trial: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(trial, damaged)
    path = damaged / "checkpoints/000040/pretrained_model/model.safetensors"
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(DataError, match=r"model\.safetensors"):
        fetch(open_store(str(damaged / "checkpoints/000040")), tmp_path / "here")
    with pytest.raises(DataError, match="missing or incomplete"):
        fetch(open_store(str(damaged / "checkpoints/000035")), tmp_path / "here")


def test_a_stale_last_does_no_harm(trial: Path, tmp_path: Path) -> None:
    stale = tmp_path / "stale"
    shutil.copytree(trial, stale)
    shutil.rmtree(stale / "checkpoints/last")  # the copy of what the link meant
    (stale / "checkpoints/last").write_text("000010\n")
    assert newest(stale, tmp_path / "here") == "000040"


@pytest.mark.parametrize("before", ["file", "link", "folder", "nothing"])
def test_last_is_a_folder_that_opens_and_whatever_lies_there_stops_nothing(before: str, tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    last = tmp_path / "checkpoints/last"
    last.parent.mkdir()
    if before == "file":
        last.write_text("000001\n")
    elif before == "link":
        last.symlink_to("000001")
    elif before == "folder":
        (last / "pretrained_model").mkdir(parents=True)
    commit(store, "000002", _saves, set)
    commit(store, "000003", _saves, set)
    assert complete(store) == ["000003", "000002"]
    assert named_step(str(last / "pretrained_model")) == str(tmp_path / "checkpoints/000003")
    if before != "folder":
        assert (last / "pretrained_model/config.yaml").read_text() == "seed: 1\n"
    opened = config_folder(str(tmp_path / "checkpoints/last/pretrained_model"), tmp_path / "scratch")
    assert (opened / "config.yaml").is_file() or before == "folder"


def test_last_opens_on_s3(s3_uri: str, tmp_path: Path) -> None:
    store = open_store(s3_uri)
    commit(store, "000002", _saves, set)
    commit(store, "000003", _saves, set)
    for address in ("checkpoints/last/pretrained_model", "checkpoints/last", "checkpoints/000002/pretrained_model"):
        folder = config_folder(join(s3_uri, address), tmp_path / address.replace("/", "_"))
        assert (folder / "config.yaml").read_text() == "seed: 1\n"
    assert named_step(join(s3_uri, "checkpoints/last/pretrained_model")) == join(s3_uri, "checkpoints/000003")
    with pytest.raises(ConfigError, match="there is no such checkpoint"):
        config_folder(join(s3_uri, "other/checkpoints/last/pretrained_model"), tmp_path / "none")


def _saves(folder: Path) -> None:
    (folder / "pretrained_model").mkdir()
    (folder / "pretrained_model/config.yaml").write_text("seed: 1\n")


def test_training_does_not_go_on_from_a_checkpoint_of_lerobots(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints/000020/pretrained_model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder.parent / "training_state").mkdir()
    (tmp_path / "checkpoints/last").symlink_to("000020")
    for named in (
        folder,
        folder.parent,
        tmp_path / "checkpoints/last",
        tmp_path / "checkpoints/last/pretrained_model",
        tmp_path,
    ):
        with pytest.raises(ConfigError, match="cannot go on from a checkpoint of LeRobot") as caught:
            named_step(str(named))
        assert "policy.init_from=" in caught.value.problems[0].fix


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert newest(tmp_path / "nothing", tmp_path / "here") is None


def test_names_have_room_for_the_last_step() -> None:
    assert step_name(600, 2000) == "000600"
    assert step_name(600, 12_000_000) == "00000600"


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for step in (10, 20, 30, 40):
        commit(
            store,
            step_name(step, 40),
            lambda folder: (folder / "x").write_text("x") and None,
            lambda names: set(names[:3]),
        )
    assert complete(store) == ["000040", "000030", "000020"]
    assert not list((tmp_path / "checkpoints").glob("000010/*"))


def test_what_a_killed_save_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for step in (10, 20):
        commit(
            store,
            step_name(step, 40),
            lambda folder: (folder / "x").write_text("x") and None,
            lambda names: set(names[:3]),
        )
    (tmp_path / "checkpoints/000017").mkdir()
    (tmp_path / "checkpoints/000017/x").write_text("half")
    commit(store, "000030", lambda folder: (folder / "x").write_text("x") and None, lambda names: set(names[:3]))
    assert complete(store) == ["000030", "000020", "000010"]
    assert not (tmp_path / "checkpoints/000017/x").exists()


def test_a_full_disk_is_a_storage_error_and_the_older_checkpoint_stays(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk; at step 20 nothing larger than a kilobyte can be written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill_disk(k: int) -> None:
        if k == 15:
            while complete(open_store(str(tmp_path))) != ["000010"]:
                time.sleep(0.01)  # it is uploaded while training goes on
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    try:
        with pytest.raises(StorageError, match="TMPDIR"):
            run(tmp_path, fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert complete(open_store(str(tmp_path))) == ["000010"]
    assert run(tmp_path).resumed_from == 10
