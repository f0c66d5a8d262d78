"""Somebody types the guide's commands and nothing else: an HDF5 file, a simulator file and a policy package of their own become
a promoted champion, which acts from Python. The sizes are smaller than those that are printed."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from docs.builder import DOCS
from docs.builder.snippets import snippets
from docs.builder.typed import AFTER, MAIN, prepare, runnable, script

pytestmark = pytest.mark.chain
SMALLER = {
    "record.py crane.hdf5": "record.py crane.hdf5 40",
    "--steps 1000": "--steps 300",
    "--episodes 50 --confirm-episodes 100": "--episodes 2 --confirm-episodes 8 eval.videos=0 training.num_threads=1",
}
SMALLER_AFTER = {
    "/../checkpoints/000750 eval.n_episodes=20": "/../checkpoints/000225 eval.n_episodes=2",
    "python sweep.py": "python sweep.py 20 2",
    "training.offline_steps=200": "training.offline_steps=4 training.num_threads=1",
    "training.offline_steps=100": "training.offline_steps=4",
}


@dataclass(frozen=True)
class Walked:
    """Where it was typed, and what it printed."""

    folder: Path
    out: str


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    folder = tmp_path_factory.mktemp("crane")
    done = subprocess.run(
        ["bash", "-c", script(MAIN, SMALLER)],
        cwd=folder,
        env=prepare(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Walked(folder, done.stdout)


def test_the_guide_alone_leads_to_a_champion_that_acts(walked: Walked) -> None:
    assert [one.stem for one in (walked.folder / "store/champions/default").glob("*.json")]
    assert "is now champion 'default'" in walked.out
    assert "<chunk_mlp of " in walked.out
    assert "expected numbers [2], came float64 [3]" in walked.out
    report = next((walked.folder / "store/runs").glob("*/report.html"))
    assert report.stat().st_size > 10_000


def test_the_feature_map_on_the_page_is_what_init_writes(walked: Walked) -> None:
    (printed,) = (one.text for one in snippets(DOCS / "robot.md") if one.language == "yaml")
    made = yaml.safe_load((walked.folder / "lab/env/crane.yaml").read_text())["env"]
    shown = yaml.safe_load(printed)["env"]
    differ = {key for key in made if made[key] != shown[key]}
    assert differ <= {"simulator", "episode_length"}
    assert set(made) == set(shown)


@pytest.mark.skipif(not os.environ.get("TENDON_TEST_DOCS"), reason="make docs runs it")
def test_what_else_the_guide_prints_runs_in_that_folder(walked: Walked) -> None:
    smaller = SMALLER_AFTER
    head = "DATASET=$(echo store/datasets/crane/*)\nTRUST=$(sha256sum crane.py | cut -d' ' -f1)\n"
    text = script(AFTER, smaller)
    done = subprocess.run(
        ["bash", "-c", head + text],
        cwd=walked.folder,
        env=prepare(walked.folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lr_0.0003_width_large" in done.stdout
    assert (walked.folder / "compared/compare.html").is_file()
    assert list((walked.folder / "tuned/trials").glob("*/checkpoints/000004"))


def test_every_snippet_that_is_said_to_run_is_typed() -> None:
    typed = {one for page in (*MAIN, *AFTER) for one in runnable(page)}
    said = {
        one
        for path in DOCS.rglob("*.md")
        if "builder" not in path.parts
        for one in snippets(path)
        if one.kind == "runs" and not one.about
    }
    assert said == typed, "name its page in docs/builder/typed.py"
