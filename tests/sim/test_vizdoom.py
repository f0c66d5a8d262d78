"""ViZDoom's room, its expert and the sources of masks; with the marker sim, the guest itself (`tendon sims install vizdoom`)."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tendon.config.compose import compose
from tendon.config.schema import EnvConfig
from tendon.evaluate import sims
from tendon.evaluate.guest import Guest, Stepped
from tendon.sim import prompts, vizdoom_map
from tendon.sim.adapters.vizdoom import BUTTONS, Adapter
from tendon.sim.experts.vizdoom import VizdoomExpert
from tendon.sim.prompts import LabelPrompts, Prompt, RecordedPrompts, prompt_source, save_prompts
from tendon.sim.protocol import Refused

HUNT, APPROACH = prompts.INTERACTIONS["hunt"], prompts.INTERACTIONS["approach"]
SMALL = ("env.options.screen=[180,320]", "env.cameras.agent.height=96", "env.cameras.agent.width=96")


def lumps_of(wad: bytes) -> dict[str, bytes]:
    kind, count, directory = struct.unpack_from("<4sii", wad)
    assert kind == b"PWAD"
    entries = [struct.unpack_from("<ii8s", wad, directory + 16 * number) for number in range(count)]
    return {name.rstrip(b"\0").decode(): wad[start : start + size] for start, size, name in entries}


def test_the_room_is_a_wad_with_a_class_for_every_thing() -> None:
    lumps = lumps_of(vizdoom_map.wad(moving=False))
    assert list(lumps) == ["DECORATE", "MAP01", "TEXTMAP", "ENDMAP"]
    for kind in (*vizdoom_map.HUNTED, *vizdoom_map.APPROACHED):
        assert f"actor {vizdoom_map.actor(kind)} :" in lumps["DECORATE"].decode()
    assert b"A_Wander" not in lumps["DECORATE"]
    assert b"A_Wander" in lumps_of(vizdoom_map.wad(moving=True))["DECORATE"]


def test_a_seed_is_one_scene_and_its_things_stand_apart_inside_the_room() -> None:
    kinds = tuple(vizdoom_map.HUNTED)
    scenes = [vizdoom_map.scene(seed, kinds, 60) for seed in range(300)]
    assert scenes == [vizdoom_map.scene(seed, kinds, 60) for seed in range(300)]
    assert len({(scene.target.kind, scene.distractor.kind) for scene in scenes}) == 20
    for scene in scenes:
        start, things = np.array(scene.start), (scene.target, scene.distractor)
        assert scene.target.kind != scene.distractor.kind
        for thing in things:
            assert max(abs(thing.x), abs(thing.y), abs(thing.summoned_from[0])) < vizdoom_map.HALF_SIDE - 32
        ways = [np.array([thing.x, thing.y]) - start for thing in things]
        bearings = [np.degrees(np.arctan2(way[1], way[0])) for way in ways]
        assert 39 < abs((bearings[0] - bearings[1] + 180) % 360 - 180) < 141
        assert abs((bearings[0] - scene.angle + 180) % 360 - 180) < 61
        dropped_at = scene.distractor.summoned_from
        assert max(abs(dropped_at[0] - scene.target.x), abs(dropped_at[1] - scene.target.y)) > 64


def mask_at(columns: slice) -> NDArray[np.uint8]:
    mask = np.zeros((90, 160), np.uint8)
    mask[40:60, columns] = 1
    return mask


@pytest.mark.parametrize(
    ("columns", "interaction", "pressed", "yaw"),
    [
        (slice(76, 84), HUNT, ["attack"], 0.0),
        (slice(78, 90), HUNT, [], pytest.approx(np.degrees(np.arctan(4 / 60)))),
        (slice(140, 160), HUNT, [], 10.0),
        (slice(0, 10), HUNT, [], -10.0),
        (slice(0, 0), HUNT, [], 10.0),
        (slice(70, 110), APPROACH, ["forward"], pytest.approx(np.degrees(np.arctan(10 / 60)))),
        (slice(140, 160), APPROACH, [], 10.0),
        (slice(76, 84), prompts.NO_TARGET, [], 0.0),
        (slice(76, 84), prompts.INTERACTIONS["mine"], [], 0.0),
    ],
)
def test_the_expert_turns_to_the_mask_and_attacks_or_walks(
    columns: slice, interaction: int, pressed: list[str], yaw: float
) -> None:
    buttons, camera = VizdoomExpert(seed=1, noise=0.0, focal=60.0).act(mask_at(columns), interaction)
    assert buttons == pressed
    assert camera.tolist() == [0.0, yaw]


@pytest.mark.parametrize(
    ("change", "why", "fix"),
    [
        ({"task": "Basic"}, "no task 'Basic'", "env.task=Hunt"),
        ({"cameras": ("top",)}, "no camera 'top'", "agent"),
        ({"options": {"skill": 3}}, "no option 'skill'", "screen"),
        ({"options": {"prompt": "both"}}, "env.options.prompt is 'both'", "distractor"),
        ({"options": {"scored": "none"}}, "env.options.scored is 'none'", "distractor"),
        ({"options": {"masks": "eyes"}}, "masks come from labels, recorded, sam2", "env.options.masks=labels"),
        ({"options": {"masks": "recorded", "record": "/nowhere.npz"}}, "no recorded masks in /nowhere.npz", "record="),
        ({"fps": 20.0}, "35 tics a second", "env.fps=17.5"),
    ],
)
def test_what_it_does_not_have_is_refused_before_the_engine_starts(change: dict[str, Any], why: str, fix: str) -> None:
    size = (96, 96)
    asked = {"task": "Hunt", "options": {}, "fps": 8.75, "cameras": ("agent",), "size": size, "sizes": {"agent": size}}
    with pytest.raises(Refused, match=why) as refused:
        Adapter().make(**{**asked, **change})
    assert fix in refused.value.fix


def test_recorded_masks_come_back_one_by_one_and_then_nothing_is_seen(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = (rng.random((3, 7, 9)) > 0.5).astype(np.uint8)
    save_prompts(tmp_path / "masks.npz", {5: masks, 6: masks[:1]})
    source, frame = RecordedPrompts(tmp_path / "masks.npz"), np.zeros((7, 9, 3), np.uint8)
    given = [source.start(frame, Prompt(5, (7, 9))), *(source.track(frame) for _ in range(3))]
    assert (np.stack(given[:3]) == masks).all()
    assert not given[3].any()
    with pytest.raises(Refused, match="no masks of seed 7"):
        source.start(frame, Prompt(7, (7, 9)))
    with pytest.raises(Refused, match="7 x 9, the frames are 8 x 9"):
        source.start(frame, Prompt(5, (8, 9)))
    with pytest.raises(Refused, match="no labels"):
        LabelPrompts().start(frame, Prompt(5, (7, 9)))
    with pytest.raises(ValueError, match="have one size"):
        save_prompts(tmp_path / "mixed.npz", {1: masks, 2: masks[:, :4]})


def test_sam2_follows_from_the_point_once_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"masks": "sam2", "sam2": {"config": "tiny.yaml", "checkpoint": "tiny.pt"}}
    monkeypatch.setitem(sys.modules, "sam2", None)
    with pytest.raises(Refused, match="SAM-2's camera predictor cannot be imported"):
        prompt_source(options, "labels")
    monkeypatch.delitem(sys.modules, "sam2")
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "imitations"))
    source = prompt_source(options, "labels")
    frame = np.zeros((6, 8, 3), np.uint8)
    points = iter([None, (2, 3)])
    assert not source.start(frame, Prompt(1, (6, 8), point=lambda: next(points))).any()
    frame[2:4, 3:5] = 200
    assert np.argwhere(source.track(frame)).tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]
    moved = np.roll(frame, 2, axis=1)
    assert (source.track(moved) == (moved[..., 0] == 200)).all()
    with pytest.raises(Refused, match="nobody says where"):
        source.start(frame, Prompt(1, (6, 8)))
    with pytest.raises(Refused, match="its configuration and its weights"):
        prompt_source({"masks": "sam2"}, "labels")


def test_masks_of_any_size_leave_for_minestudio_in_its_own(tmp_path: Path) -> None:
    from dataclasses import replace

    from tendon.data.demonstrations import SourceDemonstrations
    from tendon.data.episode import Camera, Episode, Mask, Schema
    from tendon.data.features import column
    from tendon.data.sources import minestudio
    from tendon.data.sources.episodes import EpisodesSource
    from tendon.data.sources.minestudio import AIM, INTERACTION, TARGET
    from tendon.data.writers import write_dataset

    rng = np.random.default_rng(0)
    masks = (rng.random((32, 18, 32)) > 0.7).astype(np.uint8)
    columns = (
        column(INTERACTION, "int64", kind="category"),
        column(minestudio.BUTTONS, "float32", (20,), names=tuple(BUTTONS)),
        column(AIM, "float32", (2,), names=("pitch", "yaw")),
    )
    features = {INTERACTION: np.zeros(32, np.int64), minestudio.BUTTONS: np.zeros((32, 20), np.float32)}
    features[AIM] = rng.normal(size=(32, 2)).astype(np.float32)
    camera = Camera("observation.images.image", "image", 36, 64, 3)
    pictures = {camera.name: np.zeros((32, 36, 64, 3), np.uint8)}
    episode = Episode("demo_0", 32, features, pictures, "hunt", True, masks={TARGET: masks})
    schema = replace(Schema(columns, (camera,), 8.75), masks=(Mask(TARGET, "target", 18, 32),))
    source = EpisodesSource("demo://small", schema, [episode], "small masks")
    write_dataset(SourceDemonstrations(source), str(tmp_path / "lmdb"), "minestudio-v1.1")
    large = minestudio.open_uri(str(tmp_path / "lmdb")).read("demo_0").masks[TARGET].decoded(360, 640)
    assert (large == masks.repeat(20, 1).repeat(20, 2)).all()


# ---- the guest itself


def env_of(name: str = "vizdoom_hunt", *overrides: str) -> EnvConfig:
    if not sims.installed("vizdoom"):
        pytest.skip("vizdoom is missing: tendon sims install vizdoom")
    return compose([f"env={name}", "data.uri=x", *SMALL, *overrides]).env


def action_of(*pressed: str, pitch: float = 0.0, yaw: float = 0.0) -> NDArray[np.float64]:
    return np.array([*(float(name in pressed) for name in BUTTONS), pitch, yaw])


def play(guest: Guest, seed: int, noise: float = 0.05) -> Stepped:
    guest.reset(seed)
    guest.reset_expert(seed, noise)
    for _ in range(guest.env.episode_length):
        stepped = guest.step(guest.expert())
        if stepped.done:
            break
    return stepped


def shift(before: NDArray[Any], after: NDArray[Any], axis: int, reach: int) -> int:
    """By how many pixels the middle of a picture has moved along an axis."""
    height, width = before.shape[:2]
    rows, columns = slice(height // 4, height // 2), slice(width * 3 // 8, width * 5 // 8)
    patch = before[rows, columns].astype(int)
    costs = {}
    for pixels in range(-reach, reach + 1):
        moved = np.roll(after, -pixels, axis)[rows, columns].astype(int)
        costs[pixels] = np.abs(moved - patch).sum()
    return min(costs, key=lambda pixels: costs[pixels])


@pytest.mark.sim
def test_yaw_turns_right_and_pitch_turns_down_as_the_picture_shows() -> None:
    """The gun does not move with the picture, so only its upper half is looked at."""
    env = env_of("vizdoom_hunt", "env.cameras.agent.height=180", "env.cameras.agent.width=320", "env.options.turn=5")
    focal = 180 * 2 / 3
    with Guest(env) as guest:
        still = guest.reset(2)
        columns = np.flatnonzero(still["target"].any(0))
        right = guest.step(action_of(yaw=6.0)).observation
        moved = shift(still["agent_image"], right["agent_image"], 1, 40)
        assert moved == pytest.approx(-focal * np.tan(np.deg2rad(6)), abs=3)  # what is seen moves to the left
        assert np.flatnonzero(right["target"].any(0))[0] < columns[0]
        back = guest.step(action_of(yaw=-6.0)).observation
        assert shift(still["agent_image"], back["agent_image"], 1, 40) == 0
        down = guest.step(action_of(pitch=6.0)).observation
        assert shift(back["agent_image"], down["agent_image"], 0, 40) == pytest.approx(-12, abs=4)  # and upwards
        assert np.flatnonzero(down["target"].any(1))[0] < np.flatnonzero(back["target"].any(1))[0]


@pytest.mark.sim
def test_the_buttons_do_what_they_are_called() -> None:
    with Guest(env_of("vizdoom_approach", "env.options.turn=5")) as guest:
        areas = {}
        for name in ("forward", "back"):
            guest.reset(3)
            for _ in range(4):
                observation = guest.step(action_of(name)).observation
            areas[name] = int(observation["target"].sum())
        assert areas["forward"] > 1.2 * areas["back"]
        places = {}
        for name in ("left", "right"):
            guest.reset(3)
            for _ in range(4):
                observation = guest.step(action_of(name)).observation
            places[name] = np.flatnonzero(observation["target"].any(0)).mean()
        assert places["right"] < places["left"] - 10
        still = guest.reset(3)
        for name in ("inventory", "jump", "sneak"):
            guest.reset(3)
            stepped = guest.step(action_of(name))
            same = np.array_equal(stepped.observation["agent_image"], still["agent_image"])
            assert same == (name == "inventory"), name


@pytest.mark.sim
@pytest.mark.parametrize("name", ["vizdoom_hunt", "vizdoom_approach"])
def test_the_expert_succeeds_and_with_the_other_prompt_goes_for_the_other_thing(name: str) -> None:
    with Guest(env_of(name)) as guest:
        ends = [play(guest, seed) for seed in range(1, 9)]
        assert all(end.success and end.done and end.reward == 1 for end in ends)
    with Guest(env_of(name, "env.options.prompt=distractor")) as guest:
        assert guest.reset(1)["interaction"] == (HUNT if name == "vizdoom_hunt" else APPROACH)
        ends = [play(guest, seed) for seed in range(1, 9)]
        assert all(end.done and not end.success and end.reward == -1 for end in ends)
    with Guest(env_of(name, "env.options.prompt=distractor", "env.options.scored=distractor")) as guest:
        assert all(play(guest, seed).success for seed in range(1, 5))


@pytest.mark.sim
def test_the_prompt_says_what_is_aimed_at_and_the_mask_is_its_pixels() -> None:
    with Guest(env_of("vizdoom_hunt", "env.options.turn=5")) as guest:
        target = guest.reset(4)
        assert guest.instruction == f"hunt the {vizdoom_map.scene(4, tuple(vizdoom_map.HUNTED), 5).target.kind}"
        assert set(np.unique(target["target"])) == {0, 1}
        for _ in range(18):
            behind = guest.step(action_of(yaw=10.0)).observation
        assert not behind["target"].any()
    with Guest(env_of("vizdoom_hunt", "env.options.turn=5", "env.options.prompt=distractor")) as guest:
        other = guest.reset(4)
        assert (other["agent_image"] == target["agent_image"]).all()
        assert not (other["target"] & target["target"]).any()
    with Guest(env_of("vizdoom_hunt", "env.options.prompt=none")) as guest:
        nothing = guest.reset(4)
        assert nothing["interaction"] == -1
        assert not nothing["target"].any()
        guest.reset_expert(4, 0.0)
        assert not guest.expert().any()


def fingerprint(guest: Guest, seed: int) -> str:
    digest = hashlib.sha256()
    observation = guest.reset(seed)
    guest.reset_expert(seed, 0.05)
    for _ in range(12):
        for name in sorted(observation):
            digest.update(name.encode() + observation[name].tobytes())
        stepped = guest.step(guest.expert())
        observation = stepped.observation
        digest.update(np.float64(stepped.reward).tobytes())
        if stepped.done:
            break
    return digest.hexdigest()


FRESH = """
import sys
from tests.sim.test_vizdoom import Guest, env_of, fingerprint
with Guest(env_of("vizdoom_hunt", *sys.argv[1:])) as guest:
    print(fingerprint(guest, 100_003))
"""


@pytest.mark.sim
@pytest.mark.parametrize("overrides", [(), ("env.options.moving=true",)])
def test_a_seed_is_one_episode_in_a_fresh_process_and_after_other_episodes(overrides: tuple[str, ...]) -> None:
    with Guest(env_of("vizdoom_hunt", *overrides)) as guest:
        fingerprint(guest, 4)
        here = fingerprint(guest, 100_003)
        assert fingerprint(guest, 5) != here
        assert fingerprint(guest, 100_003) == here
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *overrides], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.split()[-1] == here


def left_behind() -> set[str]:
    places = (Path(tempfile.gettempdir()).glob("tendon-vizdoom-*"), Path("/dev/shm").glob("ViZDoom*"))
    return {str(path) for paths in places for path in paths}


@pytest.mark.sim
def test_a_killed_guest_leaves_no_files_and_no_shared_memory() -> None:
    before = left_behind()
    with Guest(env_of()) as guest:
        play(guest, 1)
        guest.kill()
    assert left_behind() <= before


@pytest.mark.sim
def test_recorded_masks_of_the_same_actions_are_those_of_the_labels(tmp_path: Path) -> None:
    actions = [action_of(yaw=3.0), action_of("forward"), action_of(yaw=-5.0)]
    with Guest(env_of()) as guest:
        masks = [guest.reset(8)["target"], *(guest.step(action).observation["target"] for action in actions)]
    save_prompts(tmp_path / "masks.npz", {8: np.stack(masks)})
    with Guest(
        env_of("vizdoom_hunt", "env.options.masks=recorded", f"+env.options.record={tmp_path / 'masks.npz'}")
    ) as guest:
        again = [guest.reset(8)["target"], *(guest.step(action).observation["target"] for action in actions)]
    assert (np.stack(masks) == np.stack(again)).all()


@pytest.mark.sim
def test_demonstrations_leave_as_minestudios_lmdb_and_as_shards_with_the_same_content(tmp_path: Path) -> None:
    from tendon.data.dataset import open_dataset
    from tendon.data.sources.minestudio import INTERACTIONS, TARGET, open_uri
    from tendon.evaluate.demo_files import write_demos
    from tendon.evaluate.experts import ExpertSettings

    env = env_of("vizdoom_hunt", "env.options.whole_chunks=32", "env.episode_length=96")
    settings = ExpertSettings(env, episodes=3, seed=1, num_guests=1)
    write_demos(settings, str(tmp_path / "lmdb"), "minestudio")
    source = open_uri(str(tmp_path / "lmdb"))
    info = source.describe()
    shards = open_dataset(write_demos(settings, str(tmp_path / "store"), "shards"))
    assert [episode.length for episode in info.episodes] == [32, 32, 32]
    for row, episode_info in zip(shards.rows, info.episodes, strict=True):
        episode, steps = source.read(episode_info.episode_id), shards.lowdim(row)
        kinds = episode.features["observation.interaction"]
        assert INTERACTIONS[kinds[0]] == "hunt"
        assert kinds[-1] == -1
        assert (kinds == steps["observation.interaction"]).all()
        assert (episode.features["action.buttons"] == steps["action.buttons"]).all()
        assert np.allclose(episode.features["action.camera"], steps["action.camera"])
        large, small = episode.masks[TARGET], shards.run_lengths(row, TARGET)
        assert (large.decoded(360, 640)[:, ::2, ::2] == small.decoded(180, 320)).all()
