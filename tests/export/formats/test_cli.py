"""robomimic's user from the command line: JSON and HDF5 in, a checkpoint; .pth out, in, and out again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tendon import cli
from tests.conftest import make_lift_like_hdf5

FOREIGN = Path(__file__).parents[2] / "config" / "foreign"
NO_ROLLOUTS = ["training.eval_freq=0", "save.on_best_rollout_success_rate=false", "device=cpu"]


def test_json_to_checkpoint_to_pth_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_lift_like_hdf5(tmp_path / "lift.hdf5")
    tree = json.loads((FOREIGN / "base.json").read_text())
    tree["algo"]["actor_layer_dims"], tree["train"]["batch_size"] = [8], 4
    (tmp_path / "base.json").write_text(json.dumps(tree))
    steps = ["training.offline_steps=2", "training.log_freq=1", *NO_ROLLOUTS]
    assert cli.main(["train", "--config", "base.json", "--dataset", "lift.hdf5", *steps]) == 0
    (checkpoint,) = (tmp_path / "outputs" / "train" / "trials").glob("*/checkpoints/000002")
    export = ["export", "--format", "robomimic-0.3", "--checkpoint-uri"]
    assert cli.main([*export, str(checkpoint), "-o", "model.pth"]) == 0
    assert json.loads((tmp_path / "model.pth.parity.json").read_text())["holds"]
    assert cli.main(["import", "model.pth", "env=lift", "--bundle-uri", str(tmp_path / "bundle")]) == 0
    assert json.loads((tmp_path / "bundle" / "parity.json").read_text())["max_abs_difference"] == 0
    assert cli.main([*export, str(tmp_path / "bundle"), "-o", "again.pth"]) == 0


def test_the_helper_takes_the_users_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.json").write_text((FOREIGN / "base.json").read_text())
    (tmp_path / "helper.py").write_text(
        "from tendon.config.generator import ConfigGenerator\n"
        "def make_generator(config_file, script_file):\n"
        "    generator = ConfigGenerator(base_config_file=config_file, script_file=script_file)\n"
        "    generator.add_param(key='train.seed', name='seed', group=0, values=[1, 2])\n"
        "    return generator\n"
    )
    script = tmp_path / "out.sh"
    arguments = [str(tmp_path / "helper.py"), "--config", str(tmp_path / "base.json"), "--script", str(script)]
    assert cli.main(["sweep", *arguments, "--command", "tendon train"]) == 0
    assert [Path(name).name for name in capsys.readouterr().out.split()] == [
        "bc_rnn_hyper_seed_1.json",
        "bc_rnn_hyper_seed_2.json",
    ]
    assert script.read_text().splitlines()[2] == f"tendon train --config {tmp_path}/bc_rnn_hyper_seed_1.json"
