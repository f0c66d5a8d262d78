"""The doctor looks at everything, never stops, and tells the repair."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import tendon.storage
from tendon import doctor
from tendon.data.cpus import usable_cpus
from tendon.doctor import Check, exit_code, render, run_checks
from tendon.errors import StorageError
from tendon.storage.store import ObjectInfo

WORD_FOR_SECRET = "sesame-open-yourself"


class Memory:
    """A store in memory that can be told to misbehave."""

    def __init__(self, flaw: str = "") -> None:
        self.objects: dict[str, bytes] = {}
        self.flaw = flaw

    def read(self, key: str) -> bytes:
        return b"other" if self.flaw == "read" else self.objects[key]

    def create(self, key: str, data: bytes) -> bool:
        new = key not in self.objects or self.flaw == "create"
        if new:
            self.objects[key] = data
        return new

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        fits = self.flaw == "replace" or (etag == self.etag(key) and self.flaw != "refuse")
        if fits:
            self.objects[key] = data
        return fits

    def etag(self, key: str) -> str:
        return self.objects[key].hex()

    def head(self, key: str) -> ObjectInfo | None:
        return ObjectInfo(key, len(self.objects[key]), self.etag(key)) if key in self.objects else None

    def delete(self, key: str) -> None:
        if self.flaw != "delete":
            del self.objects[key]


def use_store(monkeypatch: pytest.MonkeyPatch, store: Memory) -> None:
    monkeypatch.setattr(tendon.storage, "open_store", lambda uri: store, raising=False)


def test_every_check_runs_on_this_machine(tmp_path: Path) -> None:
    checks = run_checks(str(tmp_path))
    names = {check.name for check in checks}
    assert {"python", "torch", "cpu", "memory", "disk", "store", "s3 credentials", "drawing", "video"} <= names
    assert {"containers", "kubernetes", "kubeflow"} <= names
    assert not [check for check in checks if "itself failed" in check.detail]
    assert all(check.fix for check in checks if check.status in ("WARN", "FAIL"))


def test_a_check_that_breaks_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Check:
        raise RuntimeError("no luck")

    def refused() -> Check:
        raise StorageError("cannot reach it", where="here", why="nobody answers", fix="start it")

    monkeypatch.setattr(doctor, "check_python", broken)
    monkeypatch.setattr(doctor, "check_torch", refused)
    checks = {check.name: check for check in run_checks()}
    assert checks["python"].detail == "the check itself failed: RuntimeError: no luck"
    assert checks["torch"] == Check("torch", "FAIL", "cannot reach it: nobody answers", "start it")
    assert "disk" in checks


def test_the_page_puts_the_repair_beside_what_needs_one() -> None:
    checks = [
        Check("a", "PASS", "fine", "not shown"),
        Check("long name", "FAIL", "broken", "mend"),
        Check("b", "SKIP", "no"),
    ]
    assert render(checks).splitlines() == [
        "PASS  a          fine",
        "FAIL  long name  broken",
        "                 fix: mend",
        "SKIP  b          no",
        "1 PASS, 1 FAIL, 1 SKIP",
    ]


def test_exit_codes() -> None:
    assert exit_code([Check("a", "PASS", ""), Check("b", "WARN", ""), Check("c", "SKIP", "")]) == 0
    assert exit_code([Check("packages: core", "FAIL", "")]) == 5
    assert exit_code([Check("store", "FAIL", "")]) == 4


@pytest.mark.parametrize(
    ("flaw", "says"),
    [
        ("", ""),
        ("read", "what is read is not what was written"),
        ("create", "conditional puts are ignored"),
        ("replace", "compare-and-swap takes any etag"),
        ("refuse", "compare-and-swap refuses the right etag"),
        ("delete", "still there"),
    ],
)
def test_a_store_must_keep_what_tendon_asks_of_it(monkeypatch: pytest.MonkeyPatch, flaw: str, says: str) -> None:
    store = Memory(flaw)
    use_store(monkeypatch, store)
    check = doctor.check_store("s3://bucket/prefix")
    assert check.status == ("FAIL" if flaw else "PASS")
    assert says in check.detail
    assert flaw == "delete" or not store.objects


def test_a_store_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uri: str) -> Memory:
        raise StorageError("no such bucket", where=uri, why="404", fix="create it")

    monkeypatch.setattr(tendon.storage, "open_store", refuse, raising=False)
    (check,) = [one for one in run_checks("s3://nothing") if one.name == "store"]
    assert (check.status, check.fix) == ("FAIL", "create it")


def test_a_folder_is_left_as_it_was_found(tmp_path: Path) -> None:
    assert doctor.check_store(str(tmp_path / "new" / "store")).status == "PASS"
    assert not list(tmp_path.iterdir())


def test_disk_of_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    check = doctor.check_disk(str(tmp_path / "a" / "b"))
    assert check.detail.endswith(f"free at {tmp_path}")
    assert doctor.check_disk("s3://bucket").status in ("PASS", "WARN", "FAIL")


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = os.statvfs(tmp_path)
    assert usage.f_bavail >= 0
    monkeypatch.setattr(doctor, "GIB", 2**60)
    assert doctor.check_disk(str(tmp_path)).status == "FAIL"


def test_credentials_are_found_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_credentials("outputs").status == "SKIP"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WORD_FOR_SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{WORD_FOR_SECRET}@store:9000")
    check = doctor.check_credentials("s3://bucket")
    assert check == Check("s3 credentials", "PASS", "found by env, endpoint http://store:9000")


def test_missing_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    check = doctor.check_credentials("s3://bucket")
    assert check.status == "FAIL"
    assert "AWS_ACCESS_KEY_ID" in check.fix


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A pod's environment without any AWS variable."""
    for name in [one for one in os.environ if one.startswith(("AWS_", "TENDON_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    return monkeypatch


def test_the_store_of_a_stock_install(pod: pytest.MonkeyPatch) -> None:
    missing = doctor.check_stock_store()
    assert missing.status == "WARN"
    assert "mlpipeline-minio-artifact" in missing.detail
    assert "data_store_uri" in missing.fix
    pod.setenv("TENDON_STOCK_ACCESS_KEY", "key")
    pod.setenv("TENDON_STOCK_SECRET_KEY", WORD_FOR_SECRET)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        pod.setenv("MINIO_SERVICE_SERVICE_HOST", "127.0.0.1")
        pod.setenv("MINIO_SERVICE_SERVICE_PORT", str(port))
        expected = f"s3://mlpipeline at http://127.0.0.1:{port} with the install's secret"
        assert doctor.check_stock_store() == Check("stock store", "PASS", expected)
        assert doctor.check_credentials("s3://mlpipeline/tendon").status == "PASS"
    pod.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    assert doctor.check_stock_store().status == "SKIP"
    pod.delenv("KUBERNETES_SERVICE_HOST")
    assert doctor.check_stock_store() == Check("stock store", "SKIP", "not on a cluster")


def test_the_name_of_the_pod(pod: pytest.MonkeyPatch) -> None:
    pod.delenv("KFP_POD_NAME", raising=False)
    assert doctor.check_pod().status == "WARN"
    pod.setenv("KFP_POD_NAME", "policy-pipeline-69bf8-system-container-impl-1234567890")
    assert doctor.check_pod().detail.endswith("-1234567890")
    pod.delenv("KUBERNETES_SERVICE_HOST")
    assert doctor.check_pod().status == "SKIP"


def test_packages_against_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        "numpy>=1.0",
        "pytest<1",
        'nothing-of-this-name>=1; extra == "train"',
        'pytest>=1; extra == "kubeflow"',
        'nothing-either; extra == "dev"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: asked)
    core, train, kubeflow = doctor.check_packages()
    assert (core.status, core.fix) == ("FAIL", "pip install tendon-robotics")
    assert "is not <1" in core.detail
    assert (train.status, train.detail) == ("WARN", "nothing-of-this-name is missing")
    assert train.fix == "pip install 'tendon-robotics[train]'"
    assert kubeflow.status == "PASS"


def test_a_machine_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert doctor.check_torch().status == "WARN"
    assert doctor.check_video().status == "FAIL"


def test_engines_and_clusters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_containers().status == doctor.check_kubernetes().status == "SKIP"

    def program(name: str, body: str) -> None:
        (tmp_path / name).write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
        (tmp_path / name).chmod(0o755)

    program("docker", "print('29.1')")
    assert doctor.check_containers() == Check("containers", "PASS", "docker 29.1")
    program("docker", "sys.exit(1)")
    assert doctor.check_containers().status == "WARN"
    program("kubectl", "sys.exit(1)")
    assert doctor.check_kubernetes().status == "WARN"
    nodes = {"items": [{"status": {"allocatable": {"nvidia.com/gpu": "8"}}}, {"status": {"allocatable": {}}}]}
    program("kubectl", f"print('here' if 'config' in sys.argv else {json.dumps(nodes)!r})")
    assert doctor.check_kubernetes() == Check("kubernetes", "PASS", "cluster here: 2 nodes, 8 GPUs")


class Api(BaseHTTPRequestHandler):
    """Answers like the pipelines API, a page, a login wall or a wrong address."""

    def do_GET(self) -> None:
        kind, _, rest = self.path.strip("/").partition("/")
        assert rest == "apis/v2beta1/healthz"
        self.send_response({"api": 200, "page": 200, "login": 401}.get(kind, 404))
        self.send_header("content-type", "application/json" if kind == "api" else "text/html")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_kubeflow(address: str) -> None:
    found = {kind: doctor.check_kubeflow(f"{address}/{kind}").status for kind in ("api", "page", "login", "wrong")}
    assert found == {"api": "PASS", "page": "WARN", "login": "WARN", "wrong": "FAIL"}
    assert doctor.check_kubeflow(None).status == "SKIP"
    assert doctor.check_kubeflow("ftp://x").status == "FAIL"
    gone = doctor.check_kubeflow(f"127.0.0.1:1/{WORD_FOR_SECRET}@x")
    assert gone.status == "FAIL"
    assert "port-forward" in gone.fix
    assert WORD_FOR_SECRET not in doctor.check_kubeflow(f"http://me:{WORD_FOR_SECRET}@127.0.0.1:1").detail


def test_processors_are_those_of_the_container(tmp_path):
    quota = tmp_path / "cpu.max"
    of_the_machine = usable_cpus(quota)
    assert of_the_machine >= 1
    for text, cpus in (("50000 100000\n", 0.5), ("max 100000\n", of_the_machine)):
        quota.write_text(text)
        assert usable_cpus(quota) == cpus
