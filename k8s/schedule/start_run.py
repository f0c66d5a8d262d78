"""Start a run of a published pipeline from inside the cluster, with the standard library alone.

python3 start_run.py KEY=TEXT...  in a pod with KF_PIPELINES_ENDPOINT, and a token file in KF_PIPELINES_SA_TOKEN_PATH.
Takes the newest version of PIPELINE; arguments are text parameters. Exit codes: 0 started, 2 no such pipeline, 4 refused.
"""

import datetime
import json
import os
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request

PIPELINE = os.environ.get("PIPELINE", "retrain-pipeline")
API = f"{os.environ['KF_PIPELINES_ENDPOINT'].rstrip('/')}/apis/v2beta1"


def ask(path, body=None):
    """The server's answer."""
    request = urllib.request.Request(f"{API}/{path}", json.dumps(body).encode() if body else None)  # noqa: S310
    request.add_header("Content-Type", "application/json")
    token = pathlib.Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", "/nothing"))
    if token.exists():
        request.add_header("Authorization", f"Bearer {token.read_text().strip()}")
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)


def main():
    """Find the pipeline and its newest version, start it, say where it is."""
    named = {"operation": "EQUALS", "key": "name", "string_value": PIPELINE}
    found = ask(f"pipelines?filter={urllib.parse.quote(json.dumps({'predicates': [named]}))}").get("pipelines", [])
    if not found:
        sys.stderr.write(
            f"error: no pipeline {PIPELINE}\nfix:   python pipelines/submit.py publish --pipeline retrain\n"
        )
        return 2
    identifier = found[0]["pipeline_id"]
    versions = ask(f"pipelines/{identifier}/versions?page_size=1&sort_by=created_at%20desc")["pipeline_versions"]
    reference = {"pipeline_id": identifier, "pipeline_version_id": versions[0]["pipeline_version_id"]}
    run = ask(
        "runs",
        {
            "display_name": f"{PIPELINE} {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M}",
            "pipeline_version_reference": reference,
            "runtime_config": {"parameters": dict(word.split("=", 1) for word in sys.argv[1:])},
            "service_account": "tendon-runner",
        },
    )
    sys.stdout.write(f"run {run['run_id']} of version {versions[0].get('display_name', '')}\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except urllib.error.HTTPError as error:
        sys.stderr.write(f"error: HTTP {error.code}: {error.read()[:300].decode(errors='replace')}\n")
        sys.exit(4)
    except OSError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(4)
