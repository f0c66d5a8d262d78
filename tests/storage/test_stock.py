"""A run that fills nothing in: the pipeline root's bucket with the endpoint and secret of a stock install.

Each case is a process of its own whose environment is what a pod has, against an S3 server that notes who signed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tendon.errors import ConfigError
from tendon.storage import stock
from tests.s3_server import Handler, S3Server

ROOT = Path(__file__).resolve().parents[2]
INSTALL_KEY, INSTALL_SECRET = "install-key-id", "a-secret-that-nobody-may-see"
ARTIFACT = "minio://mlpipeline/v2/artifacts/policy/1234/plan/trial_table"

STEP = """
import json, logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
from tendon.errors import reported
from tendon.storage import open_store
with reported("plan"):
    store = open_store(sys.argv[1])
    store.write("k", b"hello")
    open_store(sys.argv[1]).read("k")
    print(store.uri)
"""


@pytest.fixture(autouse=True)
def unknown_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test says of the pipeline root does not reach the next."""
    monkeypatch.setenv("TENDON_PIPELINE_ROOT", "")


class Signed(Handler):
    """Notes the key id of each request."""

    def _handle(self) -> None:
        authorization = self.headers.get("Authorization", "")
        self.s3.key_ids.append(authorization.partition("Credential=")[2].partition("/")[0])  # type: ignore[attr-defined]
        super()._handle()


@pytest.fixture
def server() -> Iterator[S3Server]:
    made = S3Server()
    made.key_ids = []  # type: ignore[attr-defined]
    made.buckets |= {"mlpipeline", "mine"}
    made._server.RequestHandlerClass = type("Handler", (Signed,), {"s3": made})  # type: ignore[assignment]
    with made:
        yield made


def pod(server: S3Server, tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment of a pod of a stock single-user install: no AWS variable, Kubernetes' own, the install's keys."""
    port = server.address.rpartition(":")[2]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "HOME": str(tmp_path),
        "NO_PROXY": "*",
        "AWS_EC2_METADATA_DISABLED": "true",
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        # the service as KFP 2.17 has it: its first port is not the one that speaks S3
        "SEAWEEDFS_SERVICE_HOST": "127.0.0.1",
        "SEAWEEDFS_SERVICE_PORT": "9",
        "SEAWEEDFS_SERVICE_PORT_HTTP_IAM": "9",
        "SEAWEEDFS_SERVICE_PORT_HTTP_S3_COMPAT": port,
        "TENDON_STOCK_ACCESS_KEY": INSTALL_KEY,
        "TENDON_STOCK_SECRET_KEY": INSTALL_SECRET,
    } | more


def run(environment: dict[str, str], uri: str, *more: str, step: str = STEP) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", step, uri, *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert INSTALL_SECRET not in done.stdout + done.stderr
    return done


def test_a_run_with_nothing_filled_in_uses_the_pipeline_roots_bucket(server: S3Server, tmp_path: Path) -> None:
    done = run(pod(server, tmp_path), stock.store_beside(ARTIFACT))
    assert done.returncode == 0, done.stderr
    assert "mlpipeline/tendon/k" in server.objects
    assert set(server.key_ids) == {INSTALL_KEY}  # type: ignore[attr-defined]
    line = f"store: the pipeline root's bucket mlpipeline at {server.address} with the install's own secret"
    assert done.stderr.count(line) == 1, "said once, though two stores were opened"
    assert INSTALL_KEY not in done.stdout + done.stderr


def test_the_older_service_name_works_too(server: S3Server, tmp_path: Path) -> None:
    environment = pod(server, tmp_path, MINIO_SERVICE_SERVICE_HOST="127.0.0.1")
    environment["MINIO_SERVICE_SERVICE_PORT"] = environment.pop("SEAWEEDFS_SERVICE_PORT_HTTP_S3_COMPAT")
    for name in [name for name in environment if name.startswith("SEAWEEDFS")]:
        del environment[name]
    assert run(environment, "s3://mlpipeline/tendon").returncode == 0
    assert "mlpipeline/tendon/k" in server.objects


def test_another_bucket_is_not_sent_the_installs_keys(server: S3Server, tmp_path: Path) -> None:
    done = run(pod(server, tmp_path), "s3://mine/tendon")
    assert done.returncode == 4
    assert "no S3 credentials were found" in done.stderr
    assert server.key_ids == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "chosen",
    [
        {"AWS_ACCESS_KEY_ID": "chosen", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": "SERVER"},
        {"AWS_ACCESS_KEY_ID": "chosen", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL_S3": "SERVER"},
        {"AWS_PROFILE": "mine", "AWS_ENDPOINT_URL": "SERVER"},
        {"AWS_SHARED_CREDENTIALS_FILE": "FILE"},
    ],
    ids=["variables", "endpoint of s3", "profile", "profile file alone"],
)
def test_what_is_configured_for_aws_wins(server: S3Server, tmp_path: Path, chosen: dict[str, str]) -> None:
    (tmp_path / ".aws").mkdir()
    keys = "aws_access_key_id = chosen\naws_secret_access_key = x\n"
    (tmp_path / ".aws" / "credentials").write_text(f"[mine]\n{keys}")
    (tmp_path / "keys").write_text(f"[default]\n{keys}")
    (tmp_path / ".aws" / "config").write_text(f"[default]\nendpoint_url = {server.address}\n")
    places = {"SERVER": server.address, "FILE": str(tmp_path / "keys")}
    done = run(pod(server, tmp_path, **{name: places.get(v, v) for name, v in chosen.items()}), "s3://mlpipeline/x")
    assert done.returncode == 0, done.stderr
    assert set(server.key_ids) == {"chosen"}  # type: ignore[attr-defined]
    assert "the install's own secret" not in done.stderr


@pytest.mark.parametrize(
    "chosen",
    [
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/role"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
    ],
    ids=["web identity", "container role", "endpoint alone"],
)
def test_a_role_of_the_cloud_or_an_endpoint_wins(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str]
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in pod(server, tmp_path, **chosen).items():
        monkeypatch.setenv(name, value)
    assert stock.stock_access("mlpipeline") is None
    for name in chosen:
        monkeypatch.delenv(name)
    assert stock.stock_access("mlpipeline") == stock.StockAccess(server.address, INSTALL_KEY, INSTALL_SECRET)
    assert INSTALL_SECRET not in repr(stock.stock_access("mlpipeline"))


def executor_input(uri: str) -> str:
    return json.dumps({"inputs": {}, "outputs": {"artifacts": {"model": {"artifacts": [{"uri": uri}]}}}})


def test_every_step_knows_the_bucket_of_its_pipeline_root(server: S3Server, tmp_path: Path) -> None:
    """The other steps are given run_uri only; the engine's words to the executor name the root."""
    server.buckets.add("artifacts")
    words = ("--executor_input", executor_input("minio://artifacts/v2/artifacts/policy/1/train/model"))
    done = run(pod(server, tmp_path), "s3://artifacts/tendon/runs/1", *words)
    assert done.returncode == 0, done.stderr
    assert run(pod(server, tmp_path), "s3://mlpipeline/tendon", *words).returncode == 4, "no longer the root's bucket"
    by_name = pod(server, tmp_path, TENDON_PIPELINE_ROOT="minio://artifacts/v2/artifacts")
    assert run(by_name, "s3://artifacts/tendon").returncode == 0
    on_aws = ("--executor_input", executor_input("s3://artifacts/v2/artifacts/policy/1/train/model"))
    server.key_ids.clear()  # type: ignore[attr-defined]
    assert run(pod(server, tmp_path), "s3://artifacts/tendon", *on_aws).returncode == 4, "s3:// roots have a role"
    assert server.key_ids == []  # type: ignore[attr-defined]


def test_processes_that_a_step_starts_know_it_too(server: S3Server, tmp_path: Path) -> None:
    server.buckets.add("artifacts")
    starts = (
        "import subprocess, sys; from tendon.storage.stock import store_beside\n"
        f"uri = store_beside('minio://artifacts/v2/artifacts/a/b/c/d')\n"
        f"sys.exit(subprocess.run([sys.executable, '-c', {STEP!r}, uri]).returncode)\n"
    )
    done = run(pod(server, tmp_path), "-", step=starts)
    assert done.returncode == 0, done.stderr
    assert "artifacts/tendon/k" in server.objects


def test_a_training_process_of_a_step_knows_it_too(server: S3Server, tmp_path: Path) -> None:
    """It is started after the step has read its plan, and its arguments name no artifact."""
    server.buckets.add("artifacts")
    child = STEP.replace("sys.argv[1]", "'s3://artifacts/tendon/child'")
    step = STEP + f"import subprocess; sys.exit(subprocess.run([sys.executable, '-c', {child!r}]).returncode)\n"
    words = ("--executor_input", executor_input("minio://artifacts/v2/artifacts/policy/1/train/model"))
    done = run(pod(server, tmp_path), "s3://artifacts/tendon", *words, step=step)
    assert done.returncode == 0, done.stderr
    assert "artifacts/tendon/child/k" in server.objects


def test_an_object_store_that_is_not_there_names_both_ways(server: S3Server, tmp_path: Path) -> None:
    quick = (
        "from tendon.storage import stock; stock.ROUNDS = 1; stock.CONNECT_S = 0.2; stock.SERVICES = ('seaweedfs',)\n"
    )
    environment = pod(server, tmp_path, SEAWEEDFS_SERVICE_PORT_HTTP_S3_COMPAT="9")
    done = run(environment, "s3://mlpipeline/tendon", step=quick + STEP)
    assert done.returncode == 4
    check_both_ways(done.stderr)
    assert "http://127.0.0.1:9" in done.stderr


def test_a_namespace_without_the_installs_secret_names_both_ways(server: S3Server, tmp_path: Path) -> None:
    environment = pod(server, tmp_path)
    del environment["TENDON_STOCK_ACCESS_KEY"], environment["TENDON_STOCK_SECRET_KEY"]
    done = run(environment, "s3://mlpipeline/tendon")
    assert done.returncode == 4
    check_both_ways(done.stderr)
    assert "is not in this namespace" in done.stderr


def test_a_bucket_that_does_not_exist_names_both_ways(server: S3Server, tmp_path: Path) -> None:
    server.buckets.remove("mlpipeline")
    done = run(pod(server, tmp_path), "s3://mlpipeline/tendon")
    assert done.returncode == 4
    check_both_ways(done.stderr)


def check_both_ways(text: str) -> None:
    lines = [line for line in text.splitlines() if line.split(":")[0] in ("error", "where", "why", "fix")]
    assert [line.split(":")[0] for line in lines] == ["error", "where", "why", "fix"]
    for name in ("data_store_uri", "tendon-store", "mlpipeline-minio-artifact"):
        assert name in lines[3]


def test_the_store_beside_each_kind_of_pipeline_root() -> None:
    assert stock.store_beside(ARTIFACT) == "s3://mlpipeline/tendon"
    assert stock.root_bucket() == "mlpipeline"
    assert stock.store_beside("s3://team/kfp/v2/artifacts/p/1/plan/x?region=eu") == "s3://team/kfp/tendon"
    assert stock.root_bucket() == "", "an s3:// root is reached with what the cloud gives"
    assert stock.store_beside("/tmp/local/run/1/plan/x") == "/tmp/local/tendon"


def test_a_pipeline_root_that_is_no_store_says_what_to_give() -> None:
    with pytest.raises(ConfigError) as error:
        stock.store_beside("gs://team/v2/artifacts/p/1/plan/x")
    assert "gs://" in str(error.value)
    assert "data_store_uri=s3://" in str(error.value)
    with pytest.raises(ConfigError, match="data_store_uri"):
        stock.store_beside("")
