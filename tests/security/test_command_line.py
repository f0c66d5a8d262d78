"""Hostile sources and configurations through the command line: an exit code, a name, and nothing that was copied or left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import make_lift_like_hdf5
from tests.data import lerobot_sets
from tests.promises.conftest import FOUR, Answer, call
from tests.security import hdf5_files
from tests.security.hostile import SOURCES
from tests.security.test_lerobot import HOSTILE as FOLDERS
from tests.security.test_lerobot import png_bomb

SECRET = "the-secret-of-this-pod"
PLAN = ["run", "--plan", "--source-uri", "demo://reach", "experiment=reach_bc"]


@pytest.fixture
def tendon(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Runs a command in this process, in a folder of its own and with a secret in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POD_SECRET", SECRET)

    def run(*words: object) -> Answer:
        capfd.readouterr()
        code = call(*words)
        return Answer(code, *capfd.readouterr())

    return run


def apart(*words: object, folder: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, for what could bring one down; ``code`` runs before it."""
    script = f"{code}\nimport sys\nfrom tendon.cli import main\nif __name__ == '__main__':\n    sys.exit(main())"
    (folder / "script.py").write_text(script)
    command = [sys.executable, "script.py", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def files_in(folder: Path) -> list[Path]:
    """What a conversion left, but for its note of the failure."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "failures"]


def converted(source: object) -> list[object]:
    return ["convert", "--source-uri", source, "--store-uri", "store"]


@pytest.mark.parametrize("make", hdf5_files.HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_hdf5_file(make: Callable[[h5py.File, Path], None], tendon: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(hdf5_files.SECRET * 8)
    path = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        make(file, tmp_path / "secret")
    answer = tendon(*converted(path))
    assert answer.code == 3
    assert hdf5_files.HOSTILE[make] in answer.err
    assert not files_in(tmp_path / "store")


@pytest.mark.parametrize("command", ["convert", "inspect"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_lerobot_folder(name: str, command: str, tendon: Any, tmp_path: Path) -> None:
    make, words = FOLDERS[name]
    root = lerobot_sets.make(tmp_path / "set", "v2.1")
    make(root)
    if command == "convert":
        answer = tendon(*converted(root))
        told = answer.err
    else:
        answer = tendon("inspect", root, "--format", "lerobot")
        told = answer.out + answer.err
        words += "|episode_000001.mp4"
    assert answer.code == 3
    assert any(word in told for word in [*words.split("|"), "the format of the demonstrations is not recognised"])
    assert not files_in(tmp_path / "store")


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith(("lmdb", "hdf5"))])
def test_a_damaged_file_of_a_c_library(name: str, tmp_path: Path) -> None:
    source, format = SOURCES[name](tmp_path)
    done = apart("inspect", source, "--format", format, folder=tmp_path)
    assert done.returncode == 3
    assert all(word in done.stderr for word in FOUR) or "problems that stop a conversion" in done.stdout


def test_a_picture_that_inflates_without_end(tendon: Any, tmp_path: Path) -> None:
    import resource

    root = lerobot_sets.make(tmp_path / "set", "v2.1", video=False)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.top"] = {"dtype": "image", "shape": [32, 48, 3], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))
    for path in root.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        pictures = pa.array([{"bytes": png_bomb(20_000), "path": "x.png"}] * len(table))
        pq.write_table(table.append_column("observation.images.top", pictures), path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    answer = tendon(*converted(root))
    assert answer.code == 3
    assert "(20000, 20000)" in answer.err
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 1 << 20  # in KiB
    assert not files_in(tmp_path / "store")


NAMES = [
    "observation.{0}%s",
    "observation.../../up",
    'observation."; {x!r}',
    "observation.\u00e9 \u4e2d",
    "observation. ",
]


def test_a_feature_name_may_be_any_text(tendon: Any, tmp_path: Path) -> None:
    root = lerobot_sets.make(tmp_path / "set", "v2.1", video=False)
    info = json.loads((root / "meta/info.json").read_text())
    for name in NAMES:
        info["features"][name] = {"dtype": "float32", "shape": [2], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))
    for path in root.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        for name in NAMES:
            values = pa.array(np.random.default_rng(1).normal(size=(len(table), 2)).astype("f4").tolist())
            table = table.append_column(name, values)
        pq.write_table(table, path)
    answer = tendon(*converted(root))
    assert answer.code == 0, answer.err
    (dataset,) = [path.parent for path in (tmp_path / "store").rglob("manifest.json")]
    assert tendon("inspect", dataset, "--verify").code == 0
    for format in ("lerobot-v2.1", "lerobot-v3.0", "robomimic"):
        target = tmp_path / f"out-{format}"
        assert tendon("export-data", dataset, target, "--to", format).code == 0, format
    assert set(NAMES) <= set(json.loads((tmp_path / "out-lerobot-v3.0/meta/info.json").read_text())["features"])
    assert not (tmp_path.parent / "up").exists()


CALLS = ["${oc.env:POD_SECRET}", "${now:%Y}", "${oc.decode:${oc.env:POD_SECRET}}"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("place", ["parameter", "sweep", "saved", "folder", "output"])
def test_a_configuration_calls_no_resolver(place: str, call: str, tendon: Any, tmp_path: Path) -> None:
    words: list[object] = list(PLAN)
    if place == "parameter":
        words.append(f'env.options={{note: "{call}"}}')
    elif place == "sweep":
        entry = f"{{key: device, values: [cpu, '{call}'], value_names: [cpu, other]}}"
        (tmp_path / "sweep.yaml").write_text(f"- {entry}\n")
        words += ["--sweep", "sweep.yaml"]
    elif place == "saved":
        from tendon.config.compose import compose, to_yaml

        saved = to_yaml(compose(["experiment=reach_bc", "data.uri=x", "env.options={note: here}"]))
        (tmp_path / "saved.yaml").write_text(saved.replace("note: here", f"note: {json.dumps(call)}"))
        words = ["train", "--config-dir", tmp_path, "--config-name", "saved", "--dry-run"]
    else:
        body = {
            "folder": f"data:\n  split: {json.dumps(call)}\n",
            "output": f"hydra:\n  run:\n    dir: {json.dumps(call)}\n",
        }
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\n" + body[place])
        words = ["train", "--config-dir", tmp_path, "experiment=mine", "data.uri=x", "--dry-run"]
    answer = tendon(*words)
    is_allowed = place == "output" and call == "${now:%Y}"
    assert ("calls a resolver" not in answer.err) if is_allowed else answer.code == 2
    assert is_allowed or "calls a resolver" in answer.err
    assert SECRET not in answer.out + answer.err


def test_a_key_may_still_point_at_another_key(tendon: Any) -> None:
    answer = tendon(*PLAN, 'env.options={note: "${data.split}"}')
    assert answer.code == 0, answer.err


DEEP = "a: " + "[" * 5000 + "]" * 5000 + "\n"
LAUGHS = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 7))


@pytest.mark.parametrize(("text", "why"), [(DEEP, "too large"), (LAUGHS, "too large")], ids=["depth", "aliases"])
def test_a_yaml_that_grows_is_refused(text: str, why: str, tendon: Any, tmp_path: Path) -> None:
    (tmp_path / "bomb.yaml").write_text(text)
    answer = tendon("train", "--config-dir", tmp_path, "--config-name", "bomb", "--dry-run")
    assert answer.code == 2
    assert why in answer.err


def test_a_sweep_is_judged_before_it_is_built(tendon: Any, tmp_path: Path) -> None:
    entry = {"key": "training.lr", "values": {"uniform": [0, 1], "count": 3_000_000}}
    (tmp_path / "sweep.json").write_text(json.dumps([entry]))
    answer = tendon(*PLAN, "--sweep", "sweep.json")
    assert answer.code == 2
    assert "cannot be drawn" in answer.err


CHANGE = """
import mmap, os, shutil
from tendon.data import convert as module
check, mapped, preadv = module._check, mmap.mmap, os.preadv
def read(*arguments):
    os.truncate("lift.hdf5", 4096)
    return preadv(*arguments)
class Cut(mapped):
    def __new__(cls, *arguments, **options):
        made = mapped.__new__(cls, *arguments, **options)
        os.truncate("lift.hdf5", 4096)
        return made
def changed(*arguments):
    check(*arguments)
    if {how!r} == "overwritten":
        shutil.copyfile("other.hdf5", "lift.hdf5")
    elif {how!r} == "cut":
        os.truncate("lift.hdf5", os.path.getsize("lift.hdf5") // 2)
    else:
        mmap.mmap, os.preadv = Cut, read
module._check = changed
"""


@pytest.mark.parametrize("how", ["overwritten", "cut", "cut while it is read"])
def test_a_source_that_changes_after_its_digest_was_taken(how: str, tmp_path: Path) -> None:
    for seed, name in enumerate(("lift.hdf5", "other.hdf5")):
        make_lift_like_hdf5(tmp_path / name, images=True, episodes=8, length=40, size=64, seed=seed)
    done = apart(*converted("lift.hdf5"), folder=tmp_path, code=CHANGE.format(how=how))
    assert done.returncode == 3, (done.returncode, done.stderr[-500:])
    assert "changed while it was converted" in done.stderr or "cut off" in done.stderr
    assert not list((tmp_path / "store").rglob("manifest.json"))


def test_episodes_of_one_checksum_are_no_duplicates(tendon: Any, tmp_path: Path) -> None:
    from tendon.data.dataset import open_dataset

    path = make_lift_like_hdf5(tmp_path / "lift.hdf5", episodes=3, length=9)
    with h5py.File(path, "a") as file:
        del file["data/demo_1"]
        file.copy("data/demo_0", "data/demo_1")

    def findings(name: str) -> tuple[str, np.ndarray, set[int]]:
        assert tendon(*converted(path), "--dataset-name", name).code == 0
        (uri,) = (tmp_path / "store/datasets" / name).iterdir()
        dataset = open_dataset(str(uri))
        checksums = dataset.table.column("lowdim.npy/crc32c").to_pylist()
        return tendon("inspect", uri).out, dataset.lowdim(dataset.rows[1]), set(checksums[:2])

    told, rows, checksums = findings("twice")
    assert "duplicate" in told
    assert len(checksums) == 1
    with h5py.File(path, "a") as file:
        actions = file["data/demo_1/actions"]
        actions[:] = of_equal_checksum(rows.copy(), "action")["action"]
    told, _, checksums = findings("once")
    assert len(checksums) == 1
    assert "duplicate" not in told


def of_equal_checksum(rows: np.ndarray, name: str) -> np.ndarray:
    """The same rows with other last bits of a feature: crc32c is linear, so 33 bits hold a combination that it does not see."""
    import google_crc32c

    def moved(steps: list[int]) -> np.ndarray:
        other: np.ndarray = rows.copy()
        flat = np.ascontiguousarray(other[name]).view(np.uint32).reshape(-1)
        for bit in steps:
            flat[bit // 8] ^= 1 << bit % 8
        other[name] = flat.view(np.float32).reshape(other[name].shape)
        return other

    before = google_crc32c.value(rows.tobytes())
    basis: list[tuple[int, int]] = []
    for bit in range(40):
        change, bits = google_crc32c.value(moved([bit]).tobytes()) ^ before, 1 << bit
        for held, which in basis:
            if change ^ held < change:
                change, bits = change ^ held, bits ^ which
        if not change:
            return moved([k for k in range(40) if bits >> k & 1])
        basis.append((change, bits))
    raise AssertionError("40 bits of 32 are dependent")


RAN = "import pathlib; pathlib.Path(__file__).with_suffix('.ran').write_text('yes')\n"


@pytest.mark.parametrize("kind", ["simulator", "callback", "generator", "data configuration"])
def test_python_that_nobody_installed_does_not_run(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(RAN)
    words: list[object] = ["demo-data", f"env.simulator={file}", "--episodes", 1, "-o", "demos.hdf5"]
    if kind == "callback":
        words = [*PLAN, f"training.callbacks=[{file}]"]
    elif kind == "generator":
        (tmp_path / "base.json").write_text("{}")
        words = ["sweep", file, "--config", "base.json", "--script", "out.sh"]
    elif kind == "data configuration":
        root = lerobot_sets.make(tmp_path / "set", "v2.1", video=False)
        (root / "meta/modality.json").write_text(json.dumps({"state": {}, "action": {}}))
        words = ["inspect", f"{root}?data_config={file}"]
    done = apart(*words, folder=tmp_path)
    assert not file.with_suffix(".ran").exists()
    assert done.returncode == 2
    assert "--trust" in done.stderr


def test_recipes_and_what_they_changed(tendon: Any, tmp_path: Path) -> None:
    make_lift_like_hdf5(tmp_path / "lift.hdf5")
    datasets = []
    for name, edits in (("one", [{"skip": ["demo_5"]}]), ("two", [{"skip": ["demo_5"]}, {"weights": {"demo_4": 0.5}}])):
        (tmp_path / f"{name}.yaml").write_text(json.dumps(edits))
        answer = tendon(*converted(f"lift.hdf5?recipe={name}.yaml"), "--dataset-name", name)
        assert answer.code == 0, answer.err
        (dataset,) = (tmp_path / "store/datasets" / name).iterdir()
        datasets.append(dataset)
    manifests = [json.loads((dataset / "manifest.json").read_text()) for dataset in datasets]
    assert manifests[0]["shards"] == manifests[1]["shards"]
    assert manifests[0]["digest"] != manifests[1]["digest"]


def test_what_changed_between_two_datasets(tendon: Any, tmp_path: Path) -> None:
    datasets = []
    for name, skipped in (("one", "demo_5"), ("two", "demo_4")):
        make_lift_like_hdf5(tmp_path / "lift.hdf5")
        assert tendon(*converted("lift.hdf5"), "--dataset-name", name, "--skip-episodes", skipped).code == 0
        (dataset,) = (tmp_path / "store/datasets" / name).iterdir()
        datasets.append(dataset)
    answer = tendon("diff", *datasets)
    assert answer.code == 0, answer.err
    assert "4 episodes are the same, 1 added, 1 removed, 0 changed" in answer.out


@pytest.mark.parametrize(
    ("name", "evidence"),
    [("spike", "comes back"), ("action_shift", "its actions fit"), ("near_duplicate", "a copy with noise")],
)
def test_inspect_names_what_was_planted_in_a_file(name: str, evidence: str, tendon: Any, tmp_path: Path) -> None:
    from tests.benchmarks.planted import forms
    from tests.benchmarks.planted.clean import record_many
    from tests.benchmarks.planted.defects import DEFECTS

    (defect,) = (each for each in DEFECTS if each.name == name)
    rng = np.random.default_rng(41)
    recordings = record_many(7, 40, 2, False, 7, 1)
    planted, clean = (19, 28, 33, 36), recordings[:19]
    for number in planted:
        recordings[number] = defect.change(rng, recordings[number], True, clean)
    answer = tendon("inspect", forms.hdf5(recordings, tmp_path))
    assert answer.code == 0, answer.err
    told = [line.split(":")[0].strip() for line in answer.out.splitlines() if evidence in line and "steps " in line]
    assert {f"demo_{number}" for number in planted} <= set(told)
    assert len(told) <= 6
