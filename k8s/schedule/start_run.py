"""Start a run of a published pipeline from inside the cluster, with the standard library alone: python3 start_run.py NAME=VALUE...

It takes the newest version of the pipeline, and the values become what that version's form says: numbers, true or false,
JSON. Single-user and multi-user installs; in the latter the experiment belongs to the namespace of this pod. Settings are
variables, see SETTINGS. Exit codes: 0 started, or its last run goes on; 2 an argument or the pipeline; 4 the server.
"""

import datetime
import difflib
import json
import os
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request

SETTINGS = {
    "KF_PIPELINES_ENDPOINT": "http://ml-pipeline.kubeflow:8888",
    "KF_PIPELINES_SA_TOKEN_PATH": "/var/run/secrets/kubeflow/pipelines/token",  # a single-user install needs none
    "NAMESPACE": "",  # of this pod; only a multi-user install asks for it
    "PIPELINE": "retrain-pipeline",
    "EXPERIMENT": "tendon",  # made when it is not there
    "SERVICE_ACCOUNT": "tendon-runner",  # of the run; empty: what the install takes by default
}
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
LONGEST = datetime.timedelta(days=14)  # a run that is older died without a word
TYPES = {
    "NUMBER_INTEGER": (int, "a whole number"),
    "NUMBER_DOUBLE": (float, "a number"),
    "BOOLEAN": (bool, "true or false"),
    "LIST": (list, "a JSON list"),
    "STRUCT": (dict, "a JSON object"),
}


class Refused(Exception):  # noqa: N818 - reads better where it is raised
    """What the log says: what, where, why, and how to mend it."""

    def __init__(self, code, *lines):
        self.code, self.lines = code, lines

    def __str__(self):
        return "".join(
            f"{word:7}{line}\n" for word, line in zip(("error:", "where:", "why:", "fix:"), self.lines, strict=True)
        )


class Kubeflow:
    """The API server, asked as the account of this pod."""

    def __init__(self, settings):
        self.settings = settings
        self.address = settings["KF_PIPELINES_ENDPOINT"].rstrip("/")
        self.multi_user = bool(self.ask("healthz").get("multi_user"))
        if self.multi_user and not settings["NAMESPACE"]:
            why = "this Kubeflow is a multi-user install, in which an experiment belongs to a namespace"
            raise Refused(2, "no namespace is named", "NAMESPACE", why, "take it from metadata.namespace of the pod")

    @property
    def namespace(self):
        """What the API wants to hear: a single-user install has no namespaces."""
        return {"namespace": self.settings["NAMESPACE"]} if self.multi_user else {}

    def ask(self, path, body=None, **query):
        """The server's answer."""
        address = f"{self.address}/apis/v2beta1/{path}"
        if query:
            address += "?" + urllib.parse.urlencode(query)
        request = urllib.request.Request(address, json.dumps(body).encode() if body else None)  # noqa: S310
        request.add_header("Content-Type", "application/json")
        token = pathlib.Path(self.settings["KF_PIPELINES_SA_TOKEN_PATH"])
        if token.is_file():
            request.add_header("Authorization", f"Bearer {token.read_text().strip()}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise self.refusal(path, error.code, error.read().decode(errors="replace")) from None
        except OSError as error:
            fix = "check KF_PIPELINES_ENDPOINT, and the network policy of this namespace"
            raise Refused(4, "Kubeflow cannot be reached", self.address, str(error), fix) from None
        except ValueError as error:
            fix = "KF_PIPELINES_ENDPOINT is the address of ml-pipeline, without a path"
            raise Refused(4, "this is not the API of Kubeflow Pipelines", self.address, str(error), fix) from None

    def refusal(self, path, status, text):
        """The API's own message, and what usually mends it."""
        try:
            message = json.loads(text)["message"]
        except (ValueError, KeyError, TypeError):
            message = text
        fix = "see the message; the server's log has more"
        if status in (401, 403):
            fix = "kubectl apply -k k8s/overlays/profile: it lets the account tendon-schedule start runs here"
        if "service account" in message:
            fix = "apply an overlay of k8s/ in this namespace, or SERVICE_ACCOUNT=default-editor (multi-user)"
        return Refused(4, f"Kubeflow refused {path}", self.address, f"HTTP {status}: {message[:300]}", fix)

    def listed(self, items, path, **query):
        """Everything that a listing has, over all its pages."""
        token = {}
        while True:
            page = self.ask(path, page_size=100, **query, **token)
            yield from page.get(items) or ()
            if not page.get("next_page_token"):
                return
            token = {"page_token": page["next_page_token"]}

    def named(self, items, name, **query):
        """The first of this name, None when there is none."""
        predicates = [{"operation": "EQUALS", "key": "display_name", "string_value": name}]
        found = self.listed(items, items, filter=json.dumps({"predicates": predicates}), **query)
        return next((one for one in found if one.get("display_name", name) == name), None)


def newest_version(kubeflow):
    """The newest version of the pipeline, from the namespace or from those that all share."""
    name = kubeflow.settings["PIPELINE"]
    pipeline = kubeflow.named("pipelines", name, **kubeflow.namespace)
    if pipeline is None and kubeflow.multi_user:
        pipeline = kubeflow.named("pipelines", name)
    fix = "python pipelines/submit.py publish --pipeline retrain"
    if pipeline is None:
        raise Refused(2, f"there is no pipeline {name}", "PIPELINE", "nobody published it here", fix)
    versions = kubeflow.listed(
        "pipeline_versions", f"pipelines/{pipeline['pipeline_id']}/versions", sort_by="created_at desc"
    )
    version = next(versions, None)
    if version is None:
        raise Refused(2, f"the pipeline {name} has no version", "PIPELINE", "its versions were deleted", fix)
    if "pipeline_spec" not in version:
        version = kubeflow.ask("pipelines/{pipeline_id}/versions/{pipeline_version_id}".format_map(version))
    return version


def form_of(version):
    """Types of the parameters by name; a YAML of two documents comes as two fields."""
    spec = version.get("pipeline_spec") or {}
    spec = spec.get("pipeline_spec", spec)
    fields = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    return {name: field.get("parameterType", "STRING") for name, field in fields.items()}


def typed(words, form):
    """The arguments as the form wants them."""
    values = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or name not in form:
            near = sorted((known for known in form if known.endswith(f"_{name}")), key=len)
            near = near or difflib.get_close_matches(name, form, n=1)
            fix = f"did you mean {near[0]}=...?" if near else f"one of {', '.join(form)}"
            why = "arguments are NAME=VALUE of the pipeline's form"
            raise Refused(2, f"no such parameter: {word!r}", "arguments of the CronJob", why, fix)
        if name in values:
            raise Refused(2, f"{name} is given twice", "arguments of the CronJob", "one would be lost", "give it once")
        values[name] = value_of(name, text, form[name])
    return values


def value_of(name, text, kind):
    """One argument; text stays text."""
    if kind not in TYPES:
        return text
    wanted, words = TYPES[kind]
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise Refused(
            2, f"{name}={text} is not {words}", "arguments of the CronJob", f"{name} is {words}", f"{name}=..."
        )
    return value


def experiment_id(kubeflow):
    """The experiment by its name; made when it is not there."""
    name = kubeflow.settings["EXPERIMENT"]
    found = kubeflow.named("experiments", name, **kubeflow.namespace)
    found = found or kubeflow.ask("experiments", {"display_name": name, **kubeflow.namespace})
    return found["experiment_id"]


def run_in_progress(kubeflow, experiment, mark):
    """The run that an earlier call started and that goes on, empty where there is none."""
    oldest = (datetime.datetime.now(datetime.timezone.utc) - LONGEST).strftime("%Y-%m-%dT%H:%M:%SZ")
    for run in kubeflow.listed("runs", "runs", experiment_id=experiment, sort_by="created_at desc"):
        if run.get("created_at", oldest) < oldest:
            return ""
        if run.get("description") == mark and run.get("state", "PENDING") not in ENDED:
            return run["run_id"]
    return ""


def main(words):
    """Find the pipeline and its newest version, start it, say where it is."""
    kubeflow = Kubeflow({name: os.environ.get(name, default) for name, default in SETTINGS.items()})
    settings, version = kubeflow.settings, newest_version(kubeflow)
    arguments = typed(words, form_of(version))
    experiment = experiment_id(kubeflow)
    mark = f"{settings['PIPELINE']}, started by k8s/schedule"
    if running := run_in_progress(kubeflow, experiment, mark):
        sys.stdout.write(f"run {running} of an earlier call goes on: nothing was started\n")
        return
    body = {
        "experiment_id": experiment,
        "display_name": f"{settings['PIPELINE']} {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M}",
        "description": mark,
        "pipeline_version_reference": {name: version[name] for name in ("pipeline_id", "pipeline_version_id")},
        "runtime_config": {"parameters": arguments},
    }
    if settings["SERVICE_ACCOUNT"]:
        body["service_account"] = settings["SERVICE_ACCOUNT"]
    run = kubeflow.ask("runs", body)
    sys.stdout.write(f"run {run['run_id']} of version {version.get('display_name', '')}\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as refused:
        sys.stderr.write(str(refused))
        sys.exit(refused.code)
