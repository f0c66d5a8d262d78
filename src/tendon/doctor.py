"""What this machine has, what it lacks, and the command that repairs it. Called by ``tendon doctor``.

Every check runs, whatever the others say; one that breaks is itself a FAIL. Nothing is imported before its turn.
"""

from __future__ import annotations

import ctypes.util
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tendon.data.cpus import usable_cpus
from tendon.errors import TendonError

if TYPE_CHECKING:
    from tendon.storage.store import Store

Status = Literal["PASS", "WARN", "FAIL", "SKIP"]
GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One line of the doctor: what was looked at, what was found, what to do."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def run_checks(store_uri: str | None = None, kfp_host: str | None = None) -> list[Check]:
    """Every check, in the order in which a newcomer needs them.

    Args:
        store_uri: the store to try (folder or s3:// prefix); without one the store checks are skipped.
        kfp_host: endpoint of Kubeflow Pipelines; KF_PIPELINES_ENDPOINT by default.
    """
    host = kfp_host or os.environ.get("KF_PIPELINES_ENDPOINT")
    asked: list[tuple[str, Callable[[], Check | Iterable[Check]]]] = [
        ("python", check_python),
        ("packages", check_packages),
        ("torch", check_torch),
        ("machine", check_machine),
        ("disk", lambda: check_disk(store_uri)),
        ("s3 credentials", lambda: check_credentials(store_uri)),
        ("stock store", check_stock_store),
        ("store", lambda: check_store(store_uri)),
        ("simulators", check_simulators),
        ("drawing", check_drawing),
        ("video", check_video),
        ("containers", check_containers),
        ("kubernetes", check_kubernetes),
        ("pod", check_pod),
        ("kubeflow", lambda: check_kubeflow(host)),
    ]
    return [check for name, ask in asked for check in _answers(name, ask)]


def _answers(name: str, ask: Callable[[], Check | Iterable[Check]]) -> list[Check]:
    """The answers of one check; an error of its own is an answer too."""
    try:
        found = ask()
        return [found] if isinstance(found, Check) else list(found)
    except TendonError as error:
        problem = error.problems[0]
        return [Check(name, "FAIL", f"{problem.what}: {problem.why}", problem.fix)]
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        return [Check(name, "FAIL", f"the check itself failed: {why}", "report it with this line")]


def render(checks: Sequence[Check]) -> str:
    """The checks as text, the repairing command below each that needs one, and the sum at the end."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.status:<4}  {check.name:<{width}}  {check.detail}")
        if check.fix and check.status in ("FAIL", "WARN"):
            lines.append(f"      {'':<{width}}  fix: {check.fix}")
    counts = {status: sum(check.status == status for check in checks) for status in ("PASS", "WARN", "FAIL", "SKIP")}
    lines.append(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    return "\n".join(lines)


def exit_code(checks: Sequence[Check]) -> int:
    """0 unless something failed: 4 for the store, 5 for what is not installed."""
    failed = [check.name for check in checks if check.status == "FAIL"]
    if not failed:
        return 0
    return 4 if failed[0] in ("disk", "store", "stock store", "s3 credentials", "kubeflow") else 5


# ------------------------------------------------------------------------------------------------------- this process


def check_python() -> Check:
    """The interpreter; one older than requires-python cannot have come this far."""
    return Check("python", "PASS", f"{platform.python_version()} at {sys.executable}")


def check_packages() -> list[Check]:
    """Installed versions against what each extra of tendon asks for."""
    try:
        requirements = importlib.metadata.requires("tendon-robotics") or []
    except importlib.metadata.PackageNotFoundError:
        return [Check("packages", "WARN", "tendon runs from its sources, it is not installed", "pip install -e .")]
    core, *extras = [_check_extra(extra, requirements) for extra in ("", "train", "kubeflow")]
    return [core, *extras]


def _check_extra(extra: str, requirements: Sequence[str]) -> Check:
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in requirements]
    mine = [one for one in wanted if _belongs(one.marker, extra)]
    found: list[str] = []
    wrong: list[str] = []
    for one in mine:
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{one.name} is missing")
            continue
        fits = one.specifier.contains(version, prereleases=True)
        (found if fits else wrong).append(f"{one.name} {version}" + ("" if fits else f" is not {one.specifier}"))
    name = f"packages: {extra or 'core'}"
    if wrong:
        fix = f"pip install 'tendon-robotics[{extra}]'" if extra else "pip install tendon-robotics"
        return Check(name, "WARN" if extra else "FAIL", ", ".join(wrong), fix)
    return Check(name, "PASS", ", ".join(found))


def _belongs(marker: object, extra: str) -> bool:
    """Whether a requirement is one of this extra's (of the core, for an empty one)."""
    asked = re.search(r"extra\s*==\s*['\"](\w+)['\"]", str(marker or ""))
    return (asked[1] if asked else "") == extra


def check_torch() -> Check:
    """Torch and the device that ``device=auto`` will take."""
    if importlib.util.find_spec("torch") is None:
        return Check(
            "torch", "WARN", "not installed: no training and no evaluation here", "pip install 'tendon-robotics[train]'"
        )
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Check("torch", "PASS", f"{torch.__version__}, cuda: {', '.join(names)}")
    if shutil.which("nvidia-smi"):
        fix = "install a torch build for the driver that nvidia-smi shows"
        return Check("torch", "WARN", f"{torch.__version__}, cpu only, yet the machine has a GPU driver", fix)
    return Check("torch", "PASS", f"{torch.__version__}, cpu")


def check_machine() -> list[Check]:
    """CPUs and memory that this process may use, limits of its container included."""
    cpus = usable_cpus()
    status: Status = "PASS" if cpus >= 2 else "WARN"
    checks = [Check("cpu", status, f"{cpus:g} usable", "fewer than 2: eval.batch_size=1 num_workers=1")]
    total = next((int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    limit = _words("/sys/fs/cgroup/memory.max")
    if limit and limit[0].isdigit():
        total = min(total, int(limit[0])) if total else int(limit[0])
    if not total:
        return [*checks, Check("memory", "SKIP", "this system does not tell")]
    enough = total >= 3 * GIB
    fix = "give the container or the machine 4 GiB or more"
    return [*checks, Check("memory", "PASS" if enough else "WARN", f"{total / GIB:.1f} GiB", fix)]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _words(path: str) -> list[str]:
    return " ".join(_lines(path)).split()


# ------------------------------------------------------------------------------------------------------------- storage


def check_disk(store_uri: str | None) -> Check:
    """Free space where the store is, or where temporary files go when the store is remote."""
    is_folder = store_uri is not None and "://" not in store_uri
    folder = _existing(Path(store_uri).absolute()) if is_folder and store_uri else Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    status: Status = "PASS" if free >= 5 * GIB else "WARN" if free >= GIB else "FAIL"
    fix = f"free some space on {folder}" if is_folder else f"free some space on {folder}, or set TMPDIR"
    return Check("disk", status, f"{free / GIB:.1f} GiB free at {folder}", fix)


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.parents) if one.exists())


def check_credentials(store_uri: str | None) -> Check:
    """Whether the standard chain finds S3 credentials; never what they are."""
    if not (store_uri or "").startswith("s3://"):
        return Check("s3 credentials", "SKIP", "no s3:// store is named")
    stock = importlib.import_module("tendon.storage.stock")
    access = stock.stock_access((store_uri or "").partition("://")[2].partition("/")[0])
    if access:
        return Check("s3 credentials", "PASS", f"the install's secret {stock.STOCK_SECRET}, endpoint {access.endpoint}")
    session = importlib.import_module("boto3").Session()
    found = session.get_credentials()
    if found is None:
        fix = "export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...  (or AWS_PROFILE, or a service account)"
        return Check("s3 credentials", "FAIL", "the AWS credential chain finds none", fix)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    where = f"endpoint {_without_login(endpoint)}" if endpoint else "Amazon's endpoint"
    return Check("s3 credentials", "PASS", f"found by {found.method}, {where}")


def check_stock_store() -> Check:
    """What a run without a store of its own would use on a cluster: the pipeline root's bucket and the install's secret."""
    stock = importlib.import_module("tendon.storage.stock")
    if not stock.is_in_cluster():
        return Check("stock store", "SKIP", "not on a cluster")
    if stock.is_configured():
        return Check("stock store", "SKIP", "not used: S3 credentials or an endpoint are configured")
    bucket = stock.root_bucket()
    if not bucket:
        return Check("stock store", "SKIP", f"not used: the pipeline root is {stock.pipeline_root()}")
    access = stock.stock_access(bucket)  # a StorageError, four lines, when nothing answers
    if access is None:
        detail = f"the secret {stock.STOCK_SECRET} is not in this namespace: a run needs data_store_uri"
        return Check("stock store", "WARN", detail, stock.BOTH_WAYS)
    return Check("stock store", "PASS", f"s3://{bucket} at {access.endpoint} with the install's secret")


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def check_store(store_uri: str | None) -> Check:
    """Write, read, create-only, compare-and-swap and delete one small object: all that tendon asks of a store."""
    if not store_uri:
        return Check("store", "SKIP", "no store is named (--store-uri)")
    try:
        open_store = importlib.import_module("tendon.storage").open_store
    except (ImportError, AttributeError):
        return Check("store", "SKIP", "this build has no storage package")
    created = [one for one in (Path(store_uri), *Path(store_uri).parents) if not one.exists()]
    probe = f".doctor-{uuid.uuid4().hex}"
    try:
        return _round_trip(open_store(store_uri), store_uri, f"{probe}/object")
    finally:
        if "://" not in store_uri:  # leave a folder as it was found
            shutil.rmtree(Path(store_uri) / probe, ignore_errors=True)
            _remove_empty(*created)


def _round_trip(store: Store, store_uri: str, key: str) -> Check:
    first, second = b"first", b"second"
    holds = {"a new object cannot be created": store.create(key, first)}
    try:
        holds["what is read is not what was written"] = store.read(key) == first
        holds["create replaces what is there: conditional puts are ignored"] = not store.create(key, second)
        holds["compare-and-swap takes any etag"] = not store.replace(key, second, "no-such-etag")
        found = store.head(key)
        holds["compare-and-swap refuses the right etag"] = bool(found and store.replace(key, second, found.etag))
    finally:
        store.delete(key)
    holds["a deleted object is still there"] = store.head(key) is None
    broken = [what for what, held in holds.items() if not held]
    if broken:
        fix = "use a store with conditional writes, e.g. AWS S3, MinIO or a folder"
        return Check("store", "FAIL", f"{store_uri}: {'; '.join(broken)}", fix)
    return Check("store", "PASS", f"{store_uri}: write, read, create-only, compare-and-swap, delete")


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


# ----------------------------------------------------------------------------------------------- simulators and video


def check_simulators() -> list[Check]:
    """Which guests can start."""
    folder = Path(__file__).resolve().parent / "sim" / "requirements"
    names = sorted(file.stem for file in folder.glob("*.txt"))
    if not names:
        return [Check("simulators", "SKIP", "this build lists no simulator")]
    try:
        installed = importlib.import_module("tendon.evaluate.sims").installed
    except (ImportError, AttributeError):
        return [Check("simulators", "SKIP", "this build has no guests")]
    return [
        Check(f"simulator: {name}", "PASS", "installed")
        if installed(name)
        else Check(f"simulator: {name}", "WARN", "not installed", f"tendon sims install {name}")
        for name in names
    ]


def check_drawing() -> Check:
    """The libraries with which a simulator draws without a screen."""
    found = [name for name in ("EGL", "OSMesa", "GL") if ctypes.util.find_library(name)]
    if not {"EGL", "OSMesa"} & set(found):
        fix = "sudo apt-get install -y libegl1 libosmesa6 libgl1"
        return Check("drawing", "WARN", "neither EGL nor OSMesa: no clips and no images", fix)
    return Check("drawing", "PASS", ", ".join(found))


def check_video() -> Check:
    """The encoder of the report's clips."""
    if importlib.util.find_spec("av") is None:
        return Check("video", "FAIL", "PyAV is not installed", "pip install av")
    av = importlib.import_module("av")
    for name in ("libx264", "h264", "libopenh264"):
        try:
            av.codec.Codec(name, "w")
        except Exception as error:  # PyAV's own family of errors, by codec and by build
            last = f"{type(error).__name__}: {name}"
            continue
        return Check("video", "PASS", f"PyAV {av.__version__} encodes H.264 ({name})")
    return Check(
        "video", "WARN", f"PyAV {av.__version__} has no H.264 encoder ({last})", "pip install --force-reinstall av"
    )


# ------------------------------------------------------------------------------------------------------------- cluster


def check_containers() -> Check:
    """An engine that builds and runs images; only needed for that."""
    for engine in ("docker", "podman", "nerdctl"):
        if shutil.which(engine):
            answer = _command(
                engine, "version", "--format", "{{.Server.Version}}" if engine == "docker" else "{{.Version}}"
            )
            if answer is None:
                fix = f"start the {engine} service, and let this user use it"
                return Check("containers", "WARN", f"{engine} is there but does not answer", fix)
            return Check("containers", "PASS", f"{engine} {answer.strip()}")
    return Check("containers", "SKIP", "no docker, podman or nerdctl: only building images needs one")


def check_kubernetes() -> Check:
    """kubectl, the cluster it points to, and its GPUs; only needed to run there."""
    if not shutil.which("kubectl"):
        return Check("kubernetes", "SKIP", "no kubectl: only running on a cluster needs it")
    context = _command("kubectl", "config", "current-context")
    if context is None:
        return Check("kubernetes", "WARN", "kubectl points to no cluster", "kubectl config use-context NAME")
    nodes = _command("kubectl", "get", "nodes", "-o", "json", "--request-timeout=5s")
    if nodes is None:
        fix = "kubectl get nodes  (says why)"
        return Check("kubernetes", "WARN", f"cluster {context.strip()} does not list its nodes", fix)
    items = json.loads(nodes)["items"]
    gpus = sum(int(item["status"].get("allocatable", {}).get("nvidia.com/gpu", 0)) for item in items)
    return Check("kubernetes", "PASS", f"cluster {context.strip()}: {len(items)} nodes, {gpus} GPUs")


def check_pod() -> Check:
    """The name of this pod, which messages about logs need: HOSTNAME is cut at 63 characters."""
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        return Check("pod", "SKIP", "not on a cluster")
    name = os.environ.get("KFP_POD_NAME")
    if name:
        return Check("pod", "PASS", name)
    detail = "KFP_POD_NAME is not set: this is no step of Kubeflow Pipelines, and messages cannot name the pod"
    fix = "none is needed in a pod of your own; in a step: Kubeflow Pipelines 2.0 or newer sets it"
    return Check("pod", "WARN", detail, fix)


def _command(*words: str) -> str | None:
    """What a command prints, None when it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def check_kubeflow(host: str | None) -> Check:
    """Whether the pipelines API answers."""
    if not host:
        return Check("kubeflow", "SKIP", "no endpoint is named (--kfp-host or KF_PIPELINES_ENDPOINT)")
    url = host if "://" in host else f"http://{host}"
    if not url.startswith(("http://", "https://")):
        return Check(
            "kubeflow", "FAIL", f"{_without_login(host)} is no web address", "--kfp-host https://HOST/pipeline"
        )
    shown = _without_login(url)
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/apis/v2beta1/healthz")  # noqa: S310 - checked above
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            is_api = "json" in answer.headers.get("content-type", "")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return Check(
                "kubeflow", "WARN", f"{shown} wants a login (HTTP {error.code})", "export a token for the kfp client"
            )
        return Check("kubeflow", "FAIL", f"{shown} answers HTTP {error.code}", "check the path of the address")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        fix = "kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888, then --kfp-host http://localhost:8888"
        return Check("kubeflow", "FAIL", f"{shown} cannot be reached: {why}", fix)
    if not is_api:
        return Check(
            "kubeflow", "WARN", f"{shown} answers with a page: a login, or the UI's address", "use the API's address"
        )
    return Check("kubeflow", "PASS", f"{shown} answers")
