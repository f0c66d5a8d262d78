"""Inside the images, on an engine: `make test-images`. Each container has a read-only root and shares nothing but the store."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "images.json"
IN_ORDER = ("data", "train", "sim")
STEPS = ["plan", "convert", "stats", "train base", "export base", "evaluate base", "conclude", "finish"]

pytestmark = [
    pytest.mark.images,
    pytest.mark.skipif(not os.environ.get("TENDON_TEST_IMAGES"), reason="make test-images (builds the images first)"),
]


@pytest.fixture(scope="module")
def images():
    table = json.loads(BUILT.read_text())
    return {kind: table[kind]["tag"] for kind in IN_ORDER if kind in table}


@pytest.fixture(scope="module")
def client():
    import docker

    return docker.from_env()


@pytest.fixture(scope="module")
def store():
    """An S3 server on this host, with a bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client_of(given).create_bucket(Bucket="images")
    yield given
    server.stop()


def client_of(store):
    import boto3

    keys = {"aws_access_key_id": store["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": store["AWS_SECRET_ACCESS_KEY"]}
    return boto3.client("s3", endpoint_url=store["AWS_ENDPOINT_URL"], region_name="us-east-1", **keys)


def record_key(store):
    listed = client_of(store).list_objects_v2(Bucket="tendon")["Contents"]
    return next(found["Key"] for found in listed if found["Key"].endswith("record.json"))


def inside(client, image, command, **options):
    said = client.containers.run(
        image,
        command,
        remove=True,
        read_only=True,
        tmpfs={"/tmp": "mode=1777,exec"},
        user="12345:0",
        cap_drop=["ALL"],
        network_mode="host",
        **options,
    )
    return said.decode()


def test_labels_and_the_user(client, images):
    for kind, tag in images.items():
        made = client.images.get(tag)
        assert made.labels["org.opencontainers.image.title"] == f"tendon-{kind}"
        assert made.labels["org.opencontainers.image.version"]
        assert made.labels["org.opencontainers.image.revision"] not in ("", "unknown")
        assert made.attrs["Config"]["User"] == "10001:0"
        history = json.dumps(made.history())
        assert "PIP_INDEX_URL=" not in history
        assert "PIP_EXTRA_INDEX_URL=" not in history


def test_an_image_runs_as_its_own_user_and_writes_to_tmp_only(client, images):
    """With a root file system that could be written, to see what a run would leave there."""
    for kind, tag in images.items():
        words = "id -u; tendon doctor; tendon run --help >/dev/null"
        container = client.containers.run(tag, ["sh", "-c", words], detach=True, network_mode="none")
        try:
            container.wait(timeout=300)
            assert container.logs().decode().splitlines()[0] == "10001"
            changed = [change["Path"] for change in container.diff() or ()]
        finally:
            container.remove(force=True)
        assert not [path for path in changed if path != "/tmp" and not path.startswith("/tmp/")], kind


def test_the_data_image_is_without_torch(client, images):
    assert "None" in inside(
        client, images["data"], ["python3", "-c", "import importlib.util as u; print(u.find_spec('torch'))"]
    )


def test_convert_and_stats_run_in_the_data_image(client, images, store):
    words = "tendon convert --source-uri 'demo://reach?episodes=6&seed=1' --store-uri s3://images/convert"
    said = inside(client, images["data"], ["sh", "-c", words], environment=store)
    dataset = next(line.split()[-1] for line in said.splitlines() if line.split()[:1] == ["dataset"])
    said = inside(client, images["data"], ["tendon", "stats", "--dataset-uri", dataset], environment=store)
    assert "stats/train.json" in said


def test_the_whole_dag_runs_in_the_images_with_s3_between_the_steps(images, store):
    if set(images) != set(IN_ORDER):
        pytest.skip(f"only {', '.join(images)} built")
    done = subprocess.run(
        [sys.executable, str(ROOT / "docker" / "demo.py"), "reach"],
        env={**os.environ, **store},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in the store:" in done.stdout
    steps = re.findall(r"^\[\d+/\d+\] (.+) \.\.\. done in ", done.stdout + done.stderr, re.MULTILINE)
    assert steps == STEPS
    assert f"{len(STEPS)} containers" in done.stdout
    record = json.loads(client_of(store).get_object(Bucket="tendon", Key=record_key(store))["Body"].read())
    assert {image.partition("@")[0] for image in record["images"].values()} == set(images.values())
    assert all("@sha256:" in image for image in record["images"].values())


def test_an_interrupted_training_container_leaves_with_75_and_resumes(client, images, store):
    """What a cluster does to a pod: SIGTERM. The second attempt continues at the step that was saved."""
    if "train" not in images:
        pytest.skip("no train image")
    convert = "tendon convert --source-uri 'demo://reach?episodes=6&seed=2' --store-uri s3://images/resume"
    said = inside(client, images["data"], ["sh", "-c", convert], environment=store)
    dataset = next(line.split()[-1] for line in said.splitlines() if line.split()[:1] == ["dataset"])
    train = (
        f"train experiment=reach_bc data.uri={dataset} training.offline_steps=20000 training.save_freq=20000 "
        "training.log_freq=200 training.num_threads=1 --store-uri s3://images/resume"
    )
    options = {"environment": store, "network_mode": "host", "read_only": True, "user": "12345:0"}
    options["tmpfs"] = {"/tmp": "mode=1777,exec"}
    container = client.containers.run(images["train"], ["tendon", *train.split()], detach=True, init=True, **options)
    try:
        for chunk in container.logs(stream=True, follow=True):
            if b"step:" in chunk or b"step=" in chunk:
                container.kill("SIGTERM")
                break
        assert container.wait(timeout=120)["StatusCode"] == 75, container.logs().decode()
        assert b"fix:" in container.logs()
    finally:
        container.remove(force=True)
    short = train.replace("training.log_freq=200", "training.log_freq=2000")
    again = client.containers.run(images["train"], ["tendon", *short.split()], remove=True, stderr=True, **options)
    assert b"resum" in again
