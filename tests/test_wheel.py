"""A wheel serves where no checkout is: what it holds, the same bytes twice, the pipelines compiled and planned from it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def build(folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("tendon_robotics-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def tendon(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-m", "tendon", *words], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_it_holds_no_test_no_cache_and_no_path_of_this_machine(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "docker/", "k8s/"))]
        assert "tendon/dag/pipelines/compiled/policy_pipeline.yaml" in names
        assert "tendon/sim/requirements/robosuite.txt" in names
        assert any(name.startswith("tendon/conf/experiment/") for name in names)
        with_path = [name for name in names if str(ROOT).encode() in archive.read(name)]
    assert not with_path


def test_it_is_built_twice_with_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == wheel.read_bytes()


def test_a_run_is_planned_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    words = ["run", "experiment=reach_bc", "--source-uri", "demo://reach?episodes=2&seed=1", "--plan"]
    planned = tendon(installed, tmp_path, *words, "--store-uri", str(tmp_path / "store"))
    assert planned.returncode == 0, planned.stderr
    assert "base" in planned.stdout


def test_the_pipelines_are_compiled_for_a_cluster_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("kfp")
    made = tendon(installed, tmp_path, "compile", "--output", "mine", "--image-prefix", "registry.example/team/")
    assert made.returncode == 0, made.stderr
    text = (tmp_path / "mine" / "policy_pipeline.yaml").read_text()
    assert "registry.example/team/tendon-data" in text
    ours, committed = (
        next(yaml.safe_load_all(one)) for one in (text, (ROOT / "pipelines/compiled/policy_pipeline.yaml").read_text())
    )
    assert ours["root"]["dag"] == committed["root"]["dag"]
    refused = tendon(installed, tmp_path, "compile")
    assert refused.returncode == 2
    assert "--output FOLDER" in refused.stderr
    assert tendon(installed, tmp_path, "submit", "--help").returncode == 0


def test_without_the_pipelines_it_says_what_to_install(wheel: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(bare, [name for name in archive.namelist() if not name.startswith("tendon/dag/")])
    failed = tendon(bare, tmp_path, "run", "experiment=reach_bc")
    assert failed.returncode == 5
    assert "pip install 'tendon-robotics[kubeflow]'" in failed.stderr


def test_no_message_names_the_package_of_strangers() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("src", "pipelines", "components", "docker", "docs", "k8s")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".md", ".yaml", ".sh") and path.is_file()
        for line in path.read_text(encoding="utf-8").splitlines()
        if "tendon[" in line or "pip install tendon " in line or line.rstrip("\"'`. ").endswith("pip install tendon")
    ]
    assert not wrong, "\n".join(wrong)
