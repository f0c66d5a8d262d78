"""The whole DAG in containers on one machine: images, an object store, then the committed pipeline through kfp's docker runner.

    python docker/demo.py [ENV]        ENV: reach (seconds of training) or lift

The steps share nothing but the store: it is the one AWS_ENDPOINT_URL names, or a throw-away one on this host (moto).
What came out is checked in the store itself, not taken from the engine's word.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src")) if path not in sys.path]

from tendon.errors import ConfigError, DataError, reported  # noqa: E402 - after the path
from tendon.runner import Docker, default_images, default_yaml, run_local  # noqa: E402
from tendon.storage import open_store  # noqa: E402

BUCKET = "tendon"
DEMOS = {
    "reach": ("demo://reach?episodes=40&seed=1", "experiment=reach_bc"),
    "lift": ("demo://lift?episodes=150&seed=1", "experiment=lift_bc"),
}


@contextmanager
def object_store() -> Iterator[str]:
    """The endpoint of the store that is configured, or of one that lives as long as this process."""
    if os.environ.get("AWS_ENDPOINT_URL"):
        yield os.environ["AWS_ENDPOINT_URL"]
        return
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line per request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(
        {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo-only",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    )
    try:
        yield os.environ["AWS_ENDPOINT_URL"]
    finally:
        server.stop()


def make_bucket() -> None:
    """The bucket, unless it is there."""
    import boto3

    client = boto3.client("s3")
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)


def check(store_uri: str) -> None:
    """What has to be in the store after a run."""
    store = open_store(store_uri)
    keys = [found.key for found in store.list()]
    for end in ("manifest.json", "stats/train.json", "bundle/.complete.json", "confirmation.json", "report.html"):
        if not any(key.endswith(end) for key in keys):
            raise DataError(
                "the demo did not leave what it should", where=store_uri, why=f"no {end}", fix="read the logs"
            )
    confirmation = json.loads(store.read(next(key for key in keys if key.endswith("confirmation.json"))))
    print(f"in the store: {len(keys)} objects; {confirmation['verdict']['sentence']}")


def main() -> int:
    """Run the demo; its exit code."""
    env = sys.argv[1] if len(sys.argv) > 1 else "reach"
    with reported("demo"):
        if env not in DEMOS:
            raise ConfigError(f"no demo {env!r}", where="ENV", why="unknown", fix=f"one of {', '.join(DEMOS)}")
        if missing := {"cluster_image_data", "cluster_image_train", "cluster_image_sim"} - set(default_images()):
            raise ConfigError("images are missing", where="build/images.json", why=f"no {missing}", fix="make images")
        source, config = DEMOS[env]
        with object_store() as endpoint:
            make_bucket()
            store_uri = f"s3://{BUCKET}/demo-{env}-{time.strftime('%Y%m%d-%H%M%S')}"
            print(f"object store {endpoint}, {store_uri}", flush=True)
            arguments = default_images() | {
                "data_source_uri": source,
                "policy_config": config,
                "data_store_uri": store_uri,
            }
            if env != "reach":  # its expert drives the simulator itself, so convert needs an image that has it
                arguments["cluster_image_data"] = arguments["cluster_image_sim"]
            result = run_local(default_yaml(), arguments, store_uri=store_uri, docker=Docker())
            print(f"{sum(result.seconds.values()):.0f} s in {len(result.seconds)} containers, run {result.run_uri}")
            check(store_uri)
            report = ROOT / "outputs" / f"docker-{env}.html"
            report.parent.mkdir(exist_ok=True)
            pages = [found.key for found in open_store(store_uri).list() if found.key.endswith("report.html")]
            report.write_bytes(open_store(store_uri).read(pages[0]))
            print(f"report: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
