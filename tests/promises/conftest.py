"""A trained policy of the built-in task and its bundle, made once through the command line, and the command line itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tendon.cli import main

NUM_STEPS = 4


@dataclass(frozen=True)
class Answer:
    """What a command left with, and what it printed."""

    code: int
    out: str
    err: str

    def problems(self) -> int:
        """How many errors of four lines it printed."""
        counts = {word: sum(line.startswith(word) for line in self.err.splitlines()) for word in FOUR}
        assert len(set(counts.values())) == 1, self.err
        return counts["error: "]


FOUR = ("error: ", "where: ", "why:   ", "fix:   ")


def call(*words: object) -> int:
    """The exit code of a command line."""
    try:
        return main([str(word) for word in words])
    except SystemExit as left:
        return int(left.code or 0)


@pytest.fixture
def tendon(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs one command in this process."""

    def run(*words: object) -> Answer:
        capfd.readouterr()
        code = call(*words)
        printed = capfd.readouterr()
        return Answer(code, printed.out, printed.err)

    return run


@dataclass(frozen=True)
class Trained:
    """Where everything lies."""

    root: Path
    demos: Path
    dataset: Path
    trial: Path
    checkpoint: Path
    bundle: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Demonstrations, dataset, trial and bundle."""
    root = tmp_path_factory.mktemp("trained")
    demos, store = root / "reach.hdf5", root / "store"
    assert call("demo-data", "env=reach", "--episodes", 4, "-o", demos, "--quiet") == 0
    assert call("convert", "--source-uri", demos, "--store-uri", store, "--quiet") == 0
    (dataset,) = [path.parent for path in store.rglob("manifest.json")]
    words = ["experiment=reach_bc", f"data.uri={dataset}", f"training.offline_steps={NUM_STEPS}"]
    words += ["training.save_freq=2", "training.log_freq=2", "training.valid_freq=2", "training.batch_size=8"]
    assert call("train", *words, "--store-uri", store, "--quiet") == 0
    (trial,) = (store / "trials").iterdir()
    checkpoint = trial / "checkpoints" / f"{NUM_STEPS:06d}"
    assert call("export", "--checkpoint-uri", checkpoint, "--bundle-uri", trial / "bundle", "--quiet") == 0
    return Trained(root, demos, dataset, trial, checkpoint, trial / "bundle")


@pytest.fixture(scope="session")
def bucket(s3_server: str, trained: Trained) -> str:
    """The trial in a bucket of the test server."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=s3_server, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    client.create_bucket(Bucket="trials")
    for path in trained.trial.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "trials", f"one/{path.relative_to(trained.trial).as_posix()}")
    return "s3://trials/one"


@pytest.fixture
def in_s3(bucket: str, s3_server: str, s3_environment: pytest.MonkeyPatch) -> str:
    """Its address there, and the environment that reaches it."""
    s3_environment.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    return bucket


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
