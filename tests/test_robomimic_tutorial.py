"""robomimic's tutorials as they are printed in our README: the Python of one, the HDF5 and JSON of both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tendon import robomimic
from tendon.errors import ConfigError
from tests.conftest import make_lift_like_hdf5

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "src" / "tendon" / "config" / "foreign" / "README.md"
FOREIGN = ROOT / "tests" / "config" / "foreign"
SMALL = {
    "/path/to/dataset.hdf5": "lift.hdf5",
    "/path/to/output_dir": "results",
    '"bc_transformer.json"': repr(str(FOREIGN / "bc_transformer.json")),
    '["embed_dim"] = 512': '["embed_dim"] = 8',
    '["num_layers"] = 6': '["num_layers"] = 1',
    '["num_heads"] = 8': '["num_heads"] = 2',
    '["epoch_every_n_steps"] = 500': '["epoch_every_n_steps"] = 2',
    '["batch_size"] = 16': '["batch_size"] = 2',
    '["num_epochs"] = 600': '["num_epochs"] = 1',
    '["context_length"] = 10': '["context_length"] = 2',
    '["frame_stack"] = 10': '["frame_stack"] = 2',
    '["rollout"]["rate"] = 20': '["rollout"]["enabled"] = False',
}


def test_the_tutorials_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_lift_like_hdf5(tmp_path / "lift.hdf5", images=True, size=78)  # the template crops 76
    block = re.search(r"<!-- tutorial -->\n```python\n(.*?)```", README.read_text(), re.S)
    assert block
    code = block[1]
    for printed, small in SMALL.items():
        assert printed in code, printed
        code = code.replace(printed, small)
    exec(compile(code, "tutorial", "exec"), {})
    checkpoint = Path(capsys.readouterr().out.split()[-1])
    assert checkpoint.name == "000002"
    assert checkpoint.is_relative_to("results/trials") or checkpoint.is_relative_to(tmp_path / "results/trials")


def test_the_template_unchanged(tmp_path: Path) -> None:
    file = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    config = robomimic.configure(FOREIGN / "bc_transformer.json", file, str(tmp_path / "store"))
    assert (config.env.name, config.env.episode_length, config.training.offline_steps) == ("lift", 400, 200_000)
    assert config.data.uri.startswith(str(tmp_path / "store" / "datasets" / "lift"))


def test_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no dataset"):
        robomimic.configure(FOREIGN / "bc_transformer.json", store_uri=str(tmp_path))
