"""One message to one webhook when a run ends. Called by steps.finish.

The address is a secret (chat services put a key into it): it comes from the environment and is in no message and no log.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.request

log = logging.getLogger(__name__)

WEBHOOK = "TENDON_WEBHOOK_URL"
UI_ENDPOINT = "TENDON_UI_ENDPOINT"  # where people open Kubeflow Pipelines, from the config map tendon-store
TIMEOUT_S = 10.0
CHOICES = ("never", "failure", "always")


def run_link(job_id: str) -> str:
    """The page of a run in Kubeflow's UI; empty where nobody said under which address people open it.

    Example:
        >>> os.environ["TENDON_UI_ENDPOINT"] = "https://kubeflow.lab/pipeline"
        >>> run_link("7f3a")
        'https://kubeflow.lab/pipeline/#/runs/details/7f3a'
    """
    endpoint = os.environ.get(UI_ENDPOINT, "").rstrip("/")
    return f"{endpoint}/#/runs/details/{job_id}" if endpoint and job_id else ""


def notify(text: str, fields: dict[str, str], *, failed: bool, when: str) -> bool:
    """Post ``{"text": ..., **fields}``; True when it was sent. A webhook that does not answer never fails a run."""
    url = os.environ.get(WEBHOOK, "")
    if not url or when == "never" or (when == "failure" and not failed):
        return False
    if not url.startswith(("https://", "http://")):
        log.warning("notify: %s is no web address", WEBHOOK)
        return False
    body = json.dumps({"text": text, **fields}).encode()
    header = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(url, body, header, method="POST")  # noqa: S310 - checked above
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        log.warning("notify: the webhook answers HTTP %d", error.code)
    except (OSError, ValueError) as error:
        log.warning("notify: the webhook cannot be reached (%s)", type(error).__name__)
    return False
