"""The pages of `tendon view`: what they show, that they are whole in a file, and that nothing leaves the machine."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tendon.data.dataset import open_dataset
from tendon.evaluate.video import encode_clip
from tendon.view.command import site_of
from tendon.view.episodes import DatasetView
from tendon.view.server import Server
from tendon.view.shell import ASSETS
from tests.loader.coded import Coded, coded_dataset
from tests.promises.conftest import Answer, Trained

FOREIGN = re.compile(r"(?:https?:)?//[\w.-]+", re.IGNORECASE)
HARMLESS = ("http://www.w3.org/",)  # the name of SVG, asked by nobody


@contextmanager
def served(uri: str) -> Iterator[Callable[..., tuple[int, dict[str, str], bytes]]]:
    """The pages of an address; a function that gets a path."""
    server = Server(site_of(uri))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def get(path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.request(headers.pop("method", "GET"), path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    try:
        yield get
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return coded_dataset(str(tmp_path_factory.mktemp("store")), Coded(episodes=5), "coded").uri


def first_page(get: Callable[..., tuple[int, dict[str, str], bytes]]) -> tuple[str, str]:
    status, headers, _ = get("/")
    assert status == 302
    status, _, page = get(headers["location"])
    assert status == 200
    return headers["location"], page.decode()


def test_episodes_are_listed_opened_and_seen(dataset: str) -> None:
    found = open_dataset(dataset)
    with served(dataset) as get:
        base, page = first_page(get)
        assert "Data: coded" in page
        about = json.loads(get(f"{base}api/dataset")[2])
        assert about["ids"] == [f"e{i}" for i in range(5)]
        assert about["lengths"] == [row.length for row in found.rows]
        assert [about["splits"][k[0]] for k in about["splits_of"]] == [row.splits[0] for row in found.rows]
        for number, row in enumerate(found.rows):
            episode = json.loads(get(f"{base}api/episode/{number}")[2])
            action = next(each for each in episode["features"] if each["key"] == "action")
            np.testing.assert_allclose(np.array(action["values"]).T, found.lowdim(row)["action"], rtol=1e-4)
            for camera in about["cameras"]:
                for step in (0, row.length - 1):
                    status, headers, jpeg = get(f"{base}frame/{number}/{camera['name']}/{step}.jpg")
                    assert (status, headers["content-type"]) == (200, "image/jpeg")
                    assert_shows(jpeg, found.frames(row, camera["name"], [step])[0])
        for wrong in (
            "api/episode/5",
            "api/episode/x",
            "frame/0/none/0.jpg",
            f"frame/0/{about['cameras'][0]['name']}/99.jpg",
            "x",
        ):
            status, _, body = get(f"{base}{wrong}")
            assert status == 404, wrong
            assert json.loads(body)["error"]


def assert_shows(jpeg: bytes, frame: np.ndarray) -> None:
    import simplejpeg

    shown = simplejpeg.decode_jpeg(jpeg)
    assert shown.shape == frame.shape
    assert np.abs(shown.astype(int) - frame).mean() < 8


def test_findings_stand_at_their_episode(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "A", "type": 1, "env_kwargs": {"control_freq": 10}})
        for number in range(14):
            length = 120 if number == 3 else 20
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            random = np.random.default_rng(number)
            demo.create_dataset("actions", data=random.uniform(-0.9, 0.9, (length, 2)))
            demo.create_dataset("obs/state", data=random.normal(size=(length, 3)))
    from tendon.data.convert import convert, dataset_uri
    from tendon.data.sources import open_source

    manifest = convert(open_source(str(tmp_path / "a.hdf5")), str(tmp_path), "a")
    with served(dataset_uri(str(tmp_path), "a", manifest.plan)) as get:
        base, _ = first_page(get)
        findings = json.loads(get(f"{base}api/findings")[2])["by_episode"]
    assert any(each["kind"] == "length" for each in findings["demo_3"])


def table(folder: Path, videos: bool = True) -> str:
    """An evaluation as a run leaves it, with kept rows of two questions."""
    place = folder / "trials" / ("ab" * 8) / "evaluations" / "selection-0011223344556677"
    (place / "videos").mkdir(parents=True)
    rows = [
        {"seed": 100 + k, "status": status, "steps": 3 + k, "sum_reward": float(k), "max_reward": 1.0, "wall_s": 0.1,
         "error": "it <b>broke</b>" if status == "crashed" else "", "attempt": 1,
         "video": f"videos/seed_{100 + k}.mp4" if k == 0 and videos else ""}
        for k, status in enumerate(("success", "failure", "crashed"))
    ]  # fmt: skip
    clip = encode_clip([np.full((32, 32, 3), 40 * k, np.uint8) for k in range(5)], 5.0)
    (place / "videos" / "seed_100.mp4").write_bytes(clip)
    (place / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary: dict[str, Any] = {
        "block": "selection", "env": {"task": "Reach", "simulator": "reach"}, "seeds": {"first": 100, "count": 3}, "n": 2,
        "successes": 1, "failures": 1, "crashed": 1, "success_rate": 0.5, "interval_95": [0.1, 0.9], "mean_steps": 3.5,
        "mean_sum_reward": 0.5, "wall_s": 1.0, "policy_digest": "ff", "success_rule": "any",
    }  # fmt: skip
    (place / "summary.json").write_text(json.dumps(summary))
    return str(place)


def test_an_evaluation_lists_all_episodes_and_sends_clips_by_ranges(tmp_path: Path) -> None:
    with served(table(tmp_path)) as get:
        base, page = first_page(get)
        assert "selection seeds" in page
        about = json.loads(get(f"{base}api/evaluation")[2])
        assert [(row["seed"], row["status"], row["video"]) for row in about["rows"]] == [
            (100, "success", True),
            (101, "failure", False),
            (102, "crashed", False),
        ]
        status, _, whole = get(f"{base}clip/100.mp4")
        assert status == 200
        for span, part in (("bytes=0-9", whole[:10]), ("bytes=10-", whole[10:]), ("bytes=-7", whole[-7:])):
            status, headers, body = get(f"{base}clip/100.mp4", Range=span)
            assert (status, body) == (206, part)
            assert headers["content-range"].endswith(f"/{len(whole)}")
        assert get(f"{base}clip/100.mp4", Range=f"bytes={len(whole)}-")[0] == 416
        status, _, body = get(f"{base}clip/101.mp4")
        assert status == 404
        assert "not kept" in json.loads(body)["error"]


def test_an_episode_that_was_not_recorded_is_drawn_on_demand(
    tmp_path: Path, trained: Trained, tendon: Callable[..., Answer]
) -> None:
    words = ["eval.n_episodes=2", "eval.videos=0", "eval.batch_size=1", "--output-uri", tmp_path / "evaluations"]
    done = tendon("evaluate", "--bundle-uri", trained.bundle, *words, "--json")
    assert done.code == 0, done.err
    with served(json.loads(done.out)["result"]["table"]) as get:
        base, _ = first_page(get)
        rows = json.loads(get(f"{base}api/evaluation")[2])["rows"]
        assert [(row["video"], row["can_draw"]) for row in rows] == [(False, True)] * 2
        seed = rows[0]["seed"]
        rollout = json.loads(get(f"{base}api/rollout/{seed}")[2])
        assert rollout["length"] == rows[0]["steps"] == len(rollout["features"][0]["values"][0])
        status, headers, clip = get(f"{base}clip/{seed}.mp4")
        assert (status, headers["content-type"]) == (200, "video/mp4"), clip
        assert clip[4:8] == b"ftyp"


def test_a_training_has_a_page_of_its_own(trained: Trained, tendon: Callable[..., Answer]) -> None:
    page = (trained.trial / "report.html").read_text()
    assert "Did training converge?" in page
    assert "training.lr" in page
    with served(str(trained.trial)) as get:
        base, live = first_page(get)
        assert base == f"/trial/{trained.trial.name}/"
        assert "of 4 steps" in live
        noted = json.loads((trained.trial / "timings" / "train.json").read_text())["machine"]
        assert noted["processor"] in live.replace("&amp;", "&")
        assert noted["torch"] in live


def test_the_index_ranks_runs_and_says_what_changed(tmp_path: Path) -> None:
    from tests.benchmarks.store_bench import make_runs

    make_runs(tmp_path, 101)
    with served(str(tmp_path)) as get:
        base, _ = first_page(get)
        about = json.loads(get(f"{base}api/index")[2])
    assert len(about["runs"]) == 101
    first, second = about["runs"][:2]
    assert {"policy.name", "training.lr"} <= set(first["config"])
    assert "training.batch_size" not in first["config"], "the same in every run"
    assert all(run["low"] <= run["rate"] <= run["high"] for run in about["runs"])
    assert {run["data"]["their digest"] for run in about["runs"]} == {f"{k:016x}" for k in range(2)}
    (champion,) = about["champions"]
    assert [point["when"] for point in champion["points"]] == sorted(point["when"] for point in champion["points"])
    assert len(champion["points"]) == 3
    assert sum(run["champion"] for run in about["runs"]) == 1
    assert first["name"] != second["name"]


@pytest.mark.parametrize("kind", ["dataset", "evaluation", "index", "trial"])
def test_nothing_leaves_the_machine(
    kind: str, dataset: str, tmp_path: Path, trained: Trained, tendon: Callable[..., Answer]
) -> None:
    """No address of another host in what a browser gets, and a policy that would forbid it; also when written to a file."""
    store = str(Path(dataset).parents[2])
    uri = {"dataset": dataset, "evaluation": table(tmp_path), "index": store, "trial": str(trained.trial)}[kind]
    with served(uri) as get:
        base, page = first_page(get)
        headers = get(base)[1]
    assert tendon("view", uri, "--out", tmp_path / "page.html").code == 0
    written = (tmp_path / "page.html").read_text()
    for text in (page, written):
        markup = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
        foreign = [
            found
            for found in FOREIGN.findall(markup)
            if not found.startswith("//") and not (found + "/").startswith(HARMLESS)
        ]
        assert not foreign
        assert not re.search(r"(?:src|href|action)=[\"']?(?:https?:)?//", markup)
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
        assert policy.startswith("default-src 'none'")
        assert not FOREIGN.search(policy)
    assert "connect-src" not in re.findall(r'Content-Security-Policy" content="([^"]+)"', written)[0]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


def test_another_host_name_gets_nothing(dataset: str) -> None:
    """A page elsewhere whose name resolves to this machine must not read the data."""
    with served(dataset) as get:
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example:80", ""):
            status, _, body = get("/", Host=host)
            assert status == 403, host
            assert b"coded" not in body
        assert get("/", Host="localhost:1")[0] == 302
        assert get("/", method="POST")[0] == 501
        for path in ("/dataset/../../etc/", "/dataset/%2e%2e/x/", "/run/../", "/dataset/coded/none/"):
            assert get(path)[0] in (404, 502), path


def test_a_page_in_a_file_has_its_frames_and_hostile_names_stay_text(tmp_path: Path) -> None:
    view = DatasetView(
        coded_dataset(str(tmp_path), Coded(episodes=3, uri="x</script><script>alert(1)</script>"), "coded").uri
    )
    page = view.written()
    assert "<script>alert" not in page
    content = json.loads(re.findall(r'id="embedded">(.*?)</script>', page, re.DOTALL)[0])
    assert content["kind"] == "dataset"
    about, episode = content["answers"]["api/dataset"], content["answers"]["api/episode/2"]
    assert len(about["ids"]) == 3
    for camera in about["cameras"]:
        for step in episode["frames"]:
            assert content["media"][f"frame/2/{camera['name']}/{step}.jpg"].startswith("data:image/jpeg;base64,")
    few = DatasetView(view.uri).written(["e1"])
    content = json.loads(re.findall(r'id="embedded">(.*?)</script>', few, re.DOTALL)[0])
    assert content["answers"]["api/dataset"]["ids"] == ["e1"]
    assert "1 of 3 episodes" in content["answers"]["api/dataset"]["note"]


def test_what_cannot_be_looked_at_is_told(tendon: Callable[..., Answer], tmp_path: Path, dataset: str) -> None:
    answer = tendon("view", tmp_path, "--out", tmp_path / "a.html")
    assert answer.code == 2
    assert "there is nothing to look at" in answer.err
    answer = tendon("view", dataset, "--out", tmp_path / "a.html", "--episodes", "e9")
    assert answer.code == 2
    assert answer.problems() == 1
    (tmp_path / "a.html").write_text("mine")
    assert tendon("view", dataset, "--out", tmp_path / "a.html").code == 2
    assert (tmp_path / "a.html").read_text() == "mine"


def test_a_recording_for_rerun(tendon: Callable[..., Answer], tmp_path: Path, dataset: str) -> None:
    pytest.importorskip("rerun")
    answer = tendon("view", dataset, "--rrd", tmp_path / "a.rrd", "--episodes", "e1", "e2")
    assert answer.code == 0, answer.err
    assert (tmp_path / "a.rrd").read_bytes()[:3] == b"RRF"


def test_the_script_writes_no_markup() -> None:
    """What comes from a dataset is put into the page as text, never as HTML."""
    script = (ASSETS / "view.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)
