"""The table of foreign formats from the command line: recognised, inspected, written, and one of another package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tendon import cli
from tendon.errors import ConfigError, DataError
from tendon.export.bundle import load_policy
from tendon.export.foreign import export_weights, import_weights, write_proven
from tendon.export.parity import compare, fixed_inputs
from tendon.weights.foreign import format_claims, format_of, weight_format
from tendon.weights.formats.safetensors import Safetensors
from tendon.weights.spec import content_sha256
from tests.plugins.outside import install
from tests.policies.test_robomimic_golden import GOLDEN, content_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def pth(tmp_path: Path) -> Path:
    torch.save(content_of(np.load(GOLDEN / "bc.npz")), tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def test_the_entry_points_are_the_folder() -> None:
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11 and newer
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["tendon.weights"]
    assert entries == {name: claim.value for name, claim in format_claims().items() if claim.package == "tendon"}


def test_a_format_is_recognised_by_content_not_by_name(pth: Path, tmp_path: Path) -> None:
    renamed = pth.rename(tmp_path / "weights.bin")
    assert format_of(renamed).name == "robomimic"
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="not recognised") as caught:
        format_of(tmp_path / "other.pth")
    assert "robomimic, safetensors" in caught.value.problems[0].why
    with pytest.raises(DataError, match="no such file"):
        format_of(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("name", ["robotmimic", "robomimic-0.4", "safetensors-2"])
def test_an_unknown_format_or_version_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no weight format {name}") as caught:
        weight_format(name)
    assert caught.value.problems[0].fix.startswith(("--format robomimic", "--format safetensors"))


def test_a_file_of_theirs_as_shards_of_ours_and_back(pth: Path, tmp_path: Path) -> None:
    import_weights(str(pth), str(tmp_path / "bundle"), ["env=lift"])
    policy, info = load_policy(str(tmp_path / "bundle"))
    small = Safetensors(shard_bytes=1 << 8)
    assert write_proven(small, policy, info, tmp_path / "shards").max_abs_difference == 0
    assert len(list((tmp_path / "shards").glob("model-*-of-*.safetensors"))) > 1
    import_weights(str(tmp_path / "shards"), str(tmp_path / "again"), ["env=lift"])
    again, _ = load_policy(str(tmp_path / "again"))
    assert compare("again", policy, again, fixed_inputs(policy, info.features)).max_abs_difference == 0
    export_weights(str(tmp_path / "bundle"), str(tmp_path / "out.pth"), "robomimic")
    ours, theirs = (torch.load(path, weights_only=True) for path in (tmp_path / "out.pth", pth))
    assert all(torch.equal(ours["model"][name].float(), value.float()) for name, value in theirs["model"].items())


def test_inspect_shows_hash_policy_and_tensors(pth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["weights", "inspect", str(pth)]) == 0
    shown = capsys.readouterr().out
    assert f"sha256    {content_sha256(pth)}" in shown
    assert "format    robomimic" in shown
    assert "policy    bc" in shown
    import_weights(str(pth), str(tmp_path / "bundle"), ["env=lift"])
    assert cli.main(["weights", "inspect", str(tmp_path / "bundle")]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["trunk.0.bias", "F32"] in [line[:2] for line in lines]
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "bundle/model.safetensors").read_bytes()[:900])
    with pytest.raises(SystemExit) as ended:
        cli.main(["weights", "inspect", str(tmp_path / "cut.safetensors")])
    assert ended.value.code == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            ["import", "--bundle-uri", "b", "model.pth", "env=lift"],
            "tendon weights import model.pth env=lift --bundle-uri b",
        ),
        (
            ["export", "--checkpoint-uri", "c", "--format", "robomimic-0.5", "-o", "m.pth"],
            "tendon weights export c --format robomimic-0.5 -o m.pth",
        ),
    ],
)
def test_old_words_are_answered_with_the_new(old: list[str], new: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(old)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert sorted(next(line for line in told.splitlines() if "fix:" in line).split()[1:]) == sorted(new.split())


def test_help_has_the_new_words_and_not_the_old(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    verbs = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert "weights" in verbs
    assert "import" not in verbs


ACME = """
import json

import torch

from tendon.policies.registry import make_policy
from tendon.policies.spec import PolicySpec
from tendon.weights.foreign import ForeignPolicy, WeightFormat


class Acme(WeightFormat):
    name = "acme"
    versions = ("1",)

    def sniff(self, path):
        return path.suffix == ".acme"

    def read(self, path):
        content = json.loads(path.read_text())
        info = PolicySpec.from_json(content["info"], str(path))
        policy = make_policy(info.config, info.features)
        policy.load_state_dict({name: torch.tensor(value) for name, value in content["values"].items()})
        return ForeignPolicy(policy.eval(), info, notes=("made by acme",))

    def write(self, policy, info, path, version, kept):
        values = {name: value.tolist() for name, value in policy.state_dict().items()}
        path.write_text(json.dumps({"info": info.to_json(), "values": values}))


FORMAT = Acme()
"""


@pytest.mark.long
def test_a_format_of_another_package(pth: Path, tmp_path: Path) -> None:
    site = install(
        tmp_path / "site", "outside_acme", {"tendon.weights": {"acme": "PACKAGE.acme:FORMAT"}}, {"acme.py": ACME}
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    import_weights(str(pth), str(tmp_path / "bundle"), ["env=lift"])
    for command in (
        ["export", "bundle", "--format", "acme-1", "-o", "out.acme"],
        ["import", "out.acme", "env=lift", "--bundle-uri", "again"],
    ):
        words = [sys.executable, "-m", "tendon", "weights", *command]
        done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "note: made by acme" in done.stderr
    assert json.loads((tmp_path / "out.acme.parity.json").read_text())["max_abs_difference"] == 0
    assert (tmp_path / "again/parity.json").is_file()
