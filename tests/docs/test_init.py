"""``tendon init``: a folder that plans, from every kind of demonstrations, by flags or by answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tendon.cli import parser
from tendon.config.as_overrides import as_overrides
from tendon.config.compose import compose
from tendon.errors import ConfigError
from tendon.project import make_project
from tests.conftest import make_lift_like_hdf5
from tests.promises.conftest import Answer, tendon  # noqa: F401 - a fixture

SIMULATOR = "class Adapter: ...\n"


def test_demonstrations_that_name_a_known_task_need_no_flag(tmp_path: Path, tendon: Callable[..., Answer]) -> None:  # noqa: F811
    source = make_lift_like_hdf5(tmp_path / "my-lift.hdf5", images=True)
    answer = tendon("init", tmp_path / "lab", "--source", source)
    assert answer.code == 0, answer.err
    env = yaml.safe_load((tmp_path / "lab/env/my_lift.yaml").read_text())["env"]
    assert (env["simulator"], env["task"], env["fps"]) == ("robosuite", "Lift", 20)
    assert env["features"]["robot0_eef_pos"] == "observation.robot0_eef_pos"
    assert set(env["cameras"]) == {"agentview", "robot0_eye_in_hand"}
    planned = next(line for line in answer.out.splitlines() if line.strip().startswith("next")).split("next", 1)[1]
    planned = planned.strip().replace("outputs/my_lift", str(tmp_path / "store"))
    shown = tendon(*planned.split()[1:])
    assert shown.code == 0, shown.err
    assert "Nothing was created" in shown.out
    again = tendon("init", tmp_path / "lab", "--source", source)
    assert again.code == 2
    assert "--force" in again.err
    assert tendon("init", tmp_path / "lab", "--source", source, "--force").code == 0
    readme = (tmp_path / "lab/README.md").read_text()
    commands = readme.split("```sh\n")[1:]
    assert len(commands) == 5
    known = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert all(one.split()[1] in known for one in commands if one.startswith("tendon"))


def test_what_is_missing_is_asked_for_or_an_error(tmp_path: Path) -> None:
    import h5py

    source = make_lift_like_hdf5(tmp_path / "demos.hdf5")
    with h5py.File(source, "a") as file:
        del file["data"].attrs["env_args"]
    with pytest.raises(ConfigError, match="--simulator is missing"):
        make_project(str(tmp_path / "a"), source=str(source))
    asked: list[str] = []

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return {"Which simulator": str(tmp_path / "mine.py")}.get(question[:15], "Reach")

    (tmp_path / "mine.py").write_text(SIMULATOR)
    made = make_project(str(tmp_path / "a"), source=str(source), ask=ask)
    assert (made.simulator, made.task) == (str(tmp_path / "mine.py"), "Reach")
    assert len(asked) == 2
    assert made.trust in (tmp_path / "a/README.md").read_text()
    robot = make_project(str(tmp_path / "b"), source=str(source), simulator="none", name="arm")
    assert robot.trust == ""
    assert "tendon export" in (tmp_path / "b/README.md").read_text()
    for wrong, words in (
        ({"policy": "act_"}, "--policy act"),
        ({"name": "lift"}, "--name my_lift"),
        ({"simulator": "no.py"}, "right path"),
    ):
        given = {"source": str(source), "simulator": "none", **wrong}
        with pytest.raises(ConfigError, match=words):
            make_project(str(tmp_path / "c"), **given)  # type: ignore[arg-type]
    assert not (tmp_path / "c").exists()


def test_a_lerobot_dataset_with_an_action_of_several_parts(tmp_path: Path) -> None:
    from tests.data.lerobot_sets import make

    folder = make(tmp_path / "set", "v2.1")
    made = make_project(str(tmp_path / "lab"), source=str(folder), simulator="none")
    env = yaml.safe_load((tmp_path / f"lab/env/{made.name}.yaml").read_text())["env"]
    schema = made.info.schema
    assert set(env["features"].values()) == {
        one.key for one in schema.features if one.kind == "state" and one.key.startswith("observation.")
    }
    assert {one["key"] for one in env["cameras"].values()} == {one.name for one in schema.cameras}
    assert compose([f"experiment={made.name}", "data.uri=x"], config_dir=str(tmp_path / "lab")).env.name == made.name


@pytest.mark.parametrize(
    "words",
    [["policy=act"], ["training.lr=1e-5", "data.resize=[32,32]"], ["env.options={depth: true}", "policy=bc_gmm"]],
)
def test_a_folder_can_be_said_in_overrides(tmp_path: Path, words: list[str]) -> None:
    source = make_lift_like_hdf5(tmp_path / "demos.hdf5", images=True)
    make_project(str(tmp_path / "lab"), source=str(source), name="arm")
    wanted = compose([*words, "experiment=arm", "data.uri=unused"], config_dir=str(tmp_path / "lab"))
    assert compose([*as_overrides(["experiment=arm", *words], str(tmp_path / "lab")), "data.uri=unused"]) == wanted
