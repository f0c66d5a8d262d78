"""robomimic's user from the command line: JSON and HDF5 in, a checkpoint; .pth out, in, and out again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tendon import cli
from tendon.trust import sha256_of
from tests.conftest import make_lift_like_hdf5

FOREIGN = Path(__file__).parents[2] / "config" / "foreign"
NO_ROLLOUTS = ["training.eval_freq=0", "save.on_best_rollout_success_rate=false", "device=cpu"]


def test_json_to_checkpoint_to_pth_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_lift_like_hdf5(tmp_path / "lift.hdf5")
    tree = json.loads((FOREIGN / "base.json").read_text())
    tree["algo"]["actor_layer_dims"], tree["train"]["batch_size"] = [8], 4
    (tmp_path / "base.json").write_text(json.dumps(tree))
    steps = ["training.offline_steps=2", "training.log_freq=1", "--dataset", "lift.hdf5", *NO_ROLLOUTS]
    assert cli.main(["train", "--config", "base.json", *steps]) == 0
    with pytest.raises(SystemExit):
        cli.main(["train", "--config", "base.json", *steps, "--no-such-option"])
    (checkpoint,) = (tmp_path / "outputs" / "train" / "trials").glob("*/checkpoints/000002")
    export = ["weights", "export", "--format", "robomimic-0.3"]
    assert cli.main([*export, str(checkpoint), "-o", "model.pth"]) == 0
    assert json.loads((tmp_path / "model.pth.parity.json").read_text())["holds"]
    assert cli.main(["weights", "import", "model.pth", "env=lift", "--bundle-uri", str(tmp_path / "bundle")]) == 0
    assert json.loads((tmp_path / "bundle" / "parity.json").read_text())["max_abs_difference"] == 0
    assert cli.main([*export, str(tmp_path / "bundle"), "-o", "again.pth"]) == 0


SEEDS_HELPER = """
import robomimic
import robomimic.utils.hyperparam_utils as HyperparamUtils


def make_generator(config_file, script_file):
    generator = HyperparamUtils.ConfigGenerator(
        base_config_file=config_file, script_file=script_file
    )
    for key, value in (("algo.rnn.enabled", True), ("train.seq_length", 10), ("algo.rnn.horizon", 10)):
        generator.add_param(key=key, name="", group=0, values=[value])
    generator.add_param(key="algo.gmm.enabled", name="gmm", group=2, values=[True, False], value_names=["t", "f"])
    return generator
"""


def test_the_helper_takes_the_users_function_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, helper, script = tmp_path / "base.json", tmp_path / "helper.py", tmp_path / "out.sh"
    base.write_text((FOREIGN / "base.json").read_text())
    helper.write_text(SEEDS_HELPER)
    arguments = ["sweep", str(helper), "--config", str(base), "--script", str(script), "--trust", sha256_of(helper)]
    assert cli.main([*arguments, "--command", "tendon train"]) == 0
    names = [Path(name).name for name in capsys.readouterr().out.split()]
    assert names == ["bc_rnn_hyper_gmm_t.json", "bc_rnn_hyper_gmm_f.json"]
    assert script.read_text().splitlines()[2] == f"tendon train --config {tmp_path}/bc_rnn_hyper_gmm_t.json"
    assert "robomimic.utils" not in sys.modules


def test_a_run_takes_json_and_helper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, helper = tmp_path / "base.json", tmp_path / "helper.py"
    base.write_text((FOREIGN / "base.json").read_text())
    helper.write_text(SEEDS_HELPER)
    source = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    run = ["run", "--plan", "--config", str(base), "env=lift", "--source-uri", str(source)]
    run += ["--store-uri", str(tmp_path / "store")]
    assert cli.main([*run, "--sweep", str(helper), "--trust", sha256_of(helper)]) == 0
    trials = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]
    assert trials == ["bc_rnn_hyper_gmm_t", "bc_rnn_hyper_gmm_f"]
    assert cli.main(run) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]) == 1


@pytest.mark.parametrize(
    ("text", "words"), [("1 / 0", "ZeroDivisionError"), ("def make_generator(*_): return 3", "returns a Config")]
)
def test_a_helper_that_fails_is_named(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "helper.py").write_text(text)
    arguments = ["sweep", str(tmp_path / "helper.py"), "--config", str(FOREIGN / "base.json")]
    arguments += ["--trust", sha256_of(tmp_path / "helper.py")]
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
