"""What changed between two datasets is said by episode."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from tendon.cli import main
from tendon.data.convert import convert
from tendon.data.diff import diff
from tendon.data.plan import ConversionOptions
from tendon.data.sources import open_source
from tests.conftest import make_lift_like_hdf5


def test_every_change_of_an_episode_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = make_lift_like_hdf5(tmp_path / "a.hdf5")
    second = make_lift_like_hdf5(tmp_path / "b.hdf5")
    with h5py.File(second, "a") as file:
        file["data/demo_1/actions"][0, 0] = 0.5
        file["data/demo_2"].attrs["ep_meta"] = '{"lang": "another text"}'
        file.copy("data/demo_0", "data/demo_9")
    uris = []
    for path, options in ((first, ConversionOptions()), (second, ConversionOptions(skip_episodes=("demo_3",)))):
        manifest = convert(open_source(str(path)), str(tmp_path / "store"), path.stem, options)
        uris.append(str(tmp_path / "store/datasets" / path.stem / manifest.plan))
    changes = {each.episode_id: each for each in diff(*uris).changes}
    assert {name: each.kind for name, each in changes.items()} == {
        "demo_1": "changed", "demo_2": "changed", "demo_3": "removed", "demo_9": "added",
    }  # fmt: skip
    assert any("lowdim.npy" in what for what in changes["demo_1"].what)
    assert any("another text" in what for what in changes["demo_2"].what)
    assert main(["diff", *uris]) == 0
    out = capsys.readouterr().out
    assert "3 episodes are the same, 1 added, 1 removed, 2 changed" in out
    assert "skip_episodes" in out


def test_a_dataset_has_no_difference_to_itself(tmp_path: Path) -> None:
    path = make_lift_like_hdf5(tmp_path / "a.hdf5", images=True)
    manifest = convert(open_source(str(path)), str(tmp_path / "store"), "a")
    uri = str(tmp_path / "store/datasets/a" / manifest.plan)
    assert diff(uri, uri).changes == ()
    assert diff(uri, uri).manifest == ()
