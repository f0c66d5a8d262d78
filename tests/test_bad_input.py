"""What a user sees when something is wrong: four lines, the right exit code, and nothing left that a later run takes for finished."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from tendon.trust import sha256_of
from tests.conftest import make_lift_like_hdf5
from tests.evaluate.conftest import MISBEHAVING

LINES = ("error: ", "where: ", "why:   ", "fix:   ")


def tendon(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tendon", *map(str, arguments)]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return subprocess.run(
        command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, timeout=120, check=False
    )


def assert_four_lines(done: subprocess.CompletedProcess[str], code: int, *words: str, problems: int = 1) -> None:
    assert done.returncode == code, done.stderr
    for line in LINES:
        found = [text for text in done.stderr.splitlines() if text.startswith(line)]
        assert len(found) == problems, done.stderr
        assert all(len(text) > len(line) + 2 for text in found), done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, f"{word!r} is not in:\n{done.stderr}"


def convert(
    source: Path, tmp_path: Path, store: object = "store", **environment: str
) -> subprocess.CompletedProcess[str]:
    return tendon("convert", "--source-uri", source, "--store-uri", store, cwd=tmp_path, **environment)


def assert_nothing_finished(store: Path) -> None:
    left = (
        [path for path in store.rglob("*") if path.name in ("manifest.json", ".complete.json")]
        if store.exists()
        else []
    )
    assert not left


def break_file(tmp_path: Path, how: str) -> Path:
    path = make_lift_like_hdf5(tmp_path / f"{how}.hdf5")
    with h5py.File(path, "r+") as file:
        if how == "width":
            del file["data/demo_3/actions"]
            file["data/demo_3/actions"] = np.zeros((int(file["data/demo_3"].attrs["num_samples"]), 8))
        if how == "nan":
            file["data/demo_2/obs/object"][5, 1] = np.nan
        if how == "empty":
            for name in list(file["data"]):
                del file[f"data/{name}"]
    if how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("width", ("demo_3", "8", "--skip-episodes demo_3")),
        ("nan", ("demo_2", "object")),
        ("empty", ()),
        ("truncated", ("truncated.hdf5",)),
    ],
)
def test_broken_demonstrations(tmp_path: Path, how: str, words: tuple[str, ...]) -> None:
    assert_four_lines(convert(break_file(tmp_path, how), tmp_path), 3, *words)
    assert_nothing_finished(tmp_path / "store")


def test_a_skipped_episode_lets_the_rest_convert(tmp_path: Path) -> None:
    path = break_file(tmp_path, "width")
    done = tendon("convert", "--source-uri", path, "--store-uri", "store", "--skip-episodes", "demo_3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_missing_file(tmp_path: Path) -> None:
    assert_four_lines(convert(tmp_path / "absent.hdf5", tmp_path), 3, "absent.hdf5")
    assert_nothing_finished(tmp_path / "store")


def test_unknown_key_unknown_policy_two_wrong_keys(tmp_path: Path) -> None:
    assert_four_lines(
        tendon("train", "data.uri=x", "training.offline_stepz=5", cwd=tmp_path), 2, "training.offline_steps"
    )
    assert_four_lines(tendon("train", "data.uri=x", "policy=bcc", cwd=tmp_path), 2, "bcc", "bc")
    two = tendon("train", "data.uri=x", "training.offline_stepz=5", "policy.hedd=gmm", cwd=tmp_path)
    assert_four_lines(two, 2, "training.offline_steps", "policy.head", problems=2)


def test_a_plan_reports_every_trial_at_once(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        "- {key: training.lrr, name: lr, group: 0, values: [0.1, 0.01]}\n"
        "- {key: policy.head, name: head, group: 1, values: [gmm, gauss]}\n"
    )
    done = tendon(
        "run", "experiment=reach_bc", "--plan", "--sweep", sweep, "--source-uri", "demo://reach", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "training.lr" in done.stderr
    assert "gauss" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_unreachable_store(tmp_path: Path) -> None:
    source = make_lift_like_hdf5(tmp_path / "ok.hdf5")
    done = convert(
        source,
        tmp_path,
        "s3://bucket/prefix",
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_ACCESS_KEY_ID="someone",
        AWS_SECRET_ACCESS_KEY="do-not-print-me",
        AWS_REGION="us-east-1",
    )
    assert_four_lines(done, 4, "127.0.0.1:9")
    assert "do-not-print-me" not in done.stderr


class Refuse(http.server.BaseHTTPRequestHandler):
    def answer(self) -> None:
        body = b'<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>'
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(403)
        self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


def test_wrong_credentials(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = convert(
            make_lift_like_hdf5(tmp_path / "ok.hdf5"),
            tmp_path,
            "s3://bucket/prefix",
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}",
            AWS_ACCESS_KEY_ID="someone",
            AWS_SECRET_ACCESS_KEY="do-not-print-me",
            AWS_REGION="us-east-1",
        )
    finally:
        server.shutdown()
    assert_four_lines(done, 4)
    assert "do-not-print-me" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="a small disk needs root and mount")
def test_full_disk(tmp_path: Path) -> None:
    store = tmp_path / "small"
    store.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", store], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        assert_four_lines(convert(make_lift_like_hdf5(tmp_path / "ok.hdf5"), tmp_path, store), 4, "space")
        assert_nothing_finished(store)
    finally:
        subprocess.run(["umount", store], check=True)


def test_simulator_not_installed(tmp_path: Path) -> None:
    done = tendon(
        "demo-data", "env=lift", "--episodes", "1", "-o", "x.hdf5", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache")
    )
    assert_four_lines(done, 5, "tendon sims install robosuite")
    assert not (tmp_path / "x.hdf5").exists()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    done = tendon("convert", "--source-uri", "demo://reach?episodes=20", "--store-uri", "store", cwd=folder)
    assert done.returncode == 0, done.stderr
    (dataset,) = (folder / "store/datasets/demos").iterdir()
    done = tendon("train", "experiment=reach_bc", f"data.uri={dataset}", "training.offline_steps=300", cwd=folder)
    assert done.returncode == 0, done.stderr
    (trial,) = (folder / "outputs/train/trials").iterdir()
    checkpoint = trial / "checkpoints/000300"
    done = tendon("export", "--checkpoint-uri", checkpoint, "--bundle-uri", trial / "bundle", cwd=folder)
    assert done.returncode == 0, done.stderr
    return trial / "bundle"


def roll_out(bundle: Path, tmp_path: Path, options: str, *more: str) -> subprocess.CompletedProcess[str]:
    simulator = tmp_path / "troubled.py"
    simulator.write_text(MISBEHAVING.replace("str(self.seed)", "f'seed_{self.seed}'"))
    changes = [f"env.simulator={simulator}", f"env.options={options}", "eval.step_timeout_s=1.5", *more]
    command = ["evaluate", "--bundle-uri", bundle, "--output-uri", tmp_path / "out", *changes]
    command += ["--trust", sha256_of(simulator)]
    return tendon(*command, cwd=tmp_path)


@pytest.mark.parametrize("how", ["exit", pytest.param("hang", marks=pytest.mark.long)])
def test_a_simulator_that_fails_in_one_episode_of_fifty(bundle: Path, tmp_path: Path, how: str) -> None:
    done = roll_out(bundle, tmp_path, f"{{seed_100007: {how}}}", "eval.n_episodes=50")
    assert done.returncode == 0, done.stderr
    (summary,) = (tmp_path / "out").glob("*/summary.json")
    counts = json.loads(summary.read_text())
    assert (counts["n"], counts["crashed"]) == (49, 1)
    assert "1 crashed" in done.stdout
    rows = [json.loads(line) for line in (summary.parent / "episodes.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows if row["status"] == "crashed"] == [100007]


@pytest.mark.parametrize(("num_crashed", "most"), [(3, "0.1"), (4, "1.0")])
def test_a_simulator_that_keeps_failing_gives_no_rate(
    bundle: Path, tmp_path: Path, num_crashed: int, most: str
) -> None:
    seeds = ", ".join(f"seed_{100000 + n}: exit" for n in range(num_crashed))
    done = roll_out(bundle, tmp_path, f"{{{seeds}}}", "eval.n_episodes=4", f"eval.max_crashed={most}")
    assert_four_lines(done, 3, f"crashed in {num_crashed} of 4", "out of luck", "eval.max_crashed")
    assert_nothing_finished(tmp_path / "out")
