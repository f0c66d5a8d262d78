"""A policy of another installed package: planned without torch, trained, exported; and what two claims of a name say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tendon.config.policies import policy_claims
from tests.conftest import make_lift_like_hdf5
from tests.plugins.outside import install

ROOT = Path(__file__).resolve().parents[2]


def tendon(
    site: Path, *arguments: str, torch: bool = True, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with ``site`` on its path and, if asked, without torch."""
    blocked = site / "blocked"
    (blocked / "torch").mkdir(parents=True, exist_ok=True)
    (blocked / "torch" / "__init__.py").write_text("raise ImportError('torch is not installed here')\n")
    places = [*([] if torch else [str(blocked)]), str(site), str(ROOT / "src"), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-m", "tendon", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=cwd or site)


def test_the_entry_points_are_the_folders() -> None:
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11 and newer
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["tendon.policies"]
    assert entries == {name: claim.value for name, claim in policy_claims().items() if claim.package == "tendon"}


@pytest.mark.parametrize("policy", ["bc", "bc_rnn_gmm", "bc_transformer", "bc_vae", "tdmpc", "vqbet", "nearest"])
def test_a_run_is_planned_without_torch(tmp_path: Path, policy: str) -> None:
    install(tmp_path)
    make_lift_like_hdf5(tmp_path / "lift.hdf5")
    overrides = ["env=lift", f"policy={policy}", "training.offline_steps=10", "env.observation=[object]"]
    overrides += ["training.lr_warmup_steps=0"] if policy == "vqbet" else []
    done = tendon(tmp_path, "run", "--plan", "--source-uri", "lift.hdf5", *overrides, torch=False)
    assert done.returncode == 0, done.stderr
    assert "trial    base" in done.stdout


def test_without_torch_training_says_what_is_missing(tmp_path: Path) -> None:
    """The same block as above: were torch imported by plan, this is how it would end."""
    install(tmp_path)
    blocked = tendon(tmp_path, "export", "--checkpoint-uri", "nowhere", "--bundle-uri", "b", torch=False)
    assert blocked.returncode != 0


@pytest.mark.long
def test_a_policy_of_another_package_is_trained_and_exported(tmp_path: Path) -> None:
    install(tmp_path)
    make_lift_like_hdf5(tmp_path / "lift.hdf5")
    done = tendon(tmp_path, "convert", "--source-uri", "lift.hdf5", "--store-uri", "store")
    assert done.returncode == 0, done.stderr
    dataset = next(line.split()[1] for line in done.stdout.splitlines() if line.strip().startswith("dataset"))
    overrides = ["env=lift", "policy=nearest", "policy.width=8", f"data.uri={dataset}", "env.observation=[object]"]
    overrides += ["training.offline_steps=3", "training.batch_size=4", "device=cpu"]
    done = tendon(tmp_path, "train", *overrides, "--store-uri", "out")
    assert done.returncode == 0, done.stderr
    (checkpoint,) = (tmp_path / "out" / "trials").glob("*/checkpoints/000003")
    done = tendon(tmp_path, "export", "--checkpoint-uri", str(checkpoint), "--bundle-uri", "bundle")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle" / "parity.json").exists()


def test_a_key_without_meaning_for_it_is_refused(tmp_path: Path) -> None:
    install(tmp_path)
    done = tendon(tmp_path, "train", "env=lift", "policy=nearest", "policy.num_modes=5", "data.uri=x")
    assert done.returncode == 2
    assert "policy.num_modes is not a key of policy nearest" in done.stderr


@pytest.mark.parametrize("group", ["tendon.policies", "yaml"])
def test_two_packages_with_one_name_are_an_error_that_names_both(tmp_path: Path, group: str) -> None:
    install(tmp_path)
    other_name = {"entries": {"tendon.policies": {"far": "PACKAGE.config:NearestConfig"}}}
    install(tmp_path, "outside_second", **(other_name if group == "yaml" else {}))
    done = tendon(tmp_path, "train", "env=lift", "policy=nearest", "data.uri=x")
    assert done.returncode == 2
    assert "outside-nearest" in done.stderr
    assert "outside-second" in done.stderr


def test_a_package_may_not_take_a_name_of_tendon(tmp_path: Path) -> None:
    install(tmp_path, entries={"tendon.policies": {"bc": "PACKAGE.config:NearestConfig"}})
    done = tendon(tmp_path, "train", "env=lift", "data.uri=x")
    assert done.returncode == 2
    assert "outside-nearest and tendon both bring bc" in done.stderr


def test_the_installed_distribution_is_tendon_itself(tmp_path: Path) -> None:
    """It has another name than the package, and claims what the source checkout beside it claims."""
    entries = {"tendon.policies": {"bc": "tendon.policies.bc.config:BcConfig"}}
    install(tmp_path, "tendon_robotics", entries, {})
    done = tendon(tmp_path, "train", "env=lift", "data.uri=x", "training.lrr=1")
    assert "both bring" not in done.stderr
    assert "unknown key training.lrr" in done.stderr


def test_a_package_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    install(tmp_path, files={"config.py": "import nothing_of_this_name\n"})
    done = tendon(tmp_path, "train", "env=lift", "data.uri=x")
    assert done.returncode == 5
    assert "outside-nearest" in done.stderr
