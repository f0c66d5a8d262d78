"""Build the images, prove them healthy, push them, and write down exactly what was built.

    python docker/build.py [data train sim] [--variant cpu|cuda] [--base IMAGE] [--registry HOST/PATH --push [--release]] [--sbom]
    python docker/build.py --pin         asks the registry for the bases' digests of today and writes them into the Dockerfiles

A tag is a digest of everything that goes in, so an unchanged image is not built again. ``build/images.json`` names each
image by digest; ``pipelines/compile.py --images`` and ``tendon run --runner docker`` read it. The base, pip's index, its
certificates and its wheels come from options or from pip's own variables of this machine; none of them stays in an image.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src")) if path not in sys.path]

from components.images import IMAGES, RELEASED, VERSION  # noqa: E402 - after the path, like what follows
from tendon.errors import ConfigError, MissingDependency, TendonError, reported  # noqa: E402

SOURCES = (
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
    "src",
    "docker/install.sh",
    "docker/requirements",
    "docker/wheel_hook.py",
    "docker/extra",
    "docker/sims",
)
IMAGES_FILE = ROOT / "build" / "images.json"
VARIANTS = {"data": "cpu", "train": "cuda", "sim": "cpu"}  # the defaults
CONTENT = "io.tendon.content"  # the label that holds the digest
# What tendon doctor must say inside an image (a line's name: its status); no line may be a FAIL.
HEALTHY = {
    "data": {"packages: core": "PASS", "store": "PASS", "video": "PASS", "torch": "WARN"},
    "train": {"packages: core": "PASS", "packages: train": "PASS", "store": "PASS", "torch": "PASS"},
    "sim": {"packages: train": "PASS", "torch": "PASS", "simulator: robosuite": "PASS", "drawing": "PASS"},
}
LISTING = (
    "import importlib.metadata as m, json;"
    "print(json.dumps(sorted({(d.metadata['Name'], d.version) for d in m.distributions()})))"
)
# tendon's own interpreter and those of the simulators
EVERY_PYTHON = (
    'for python in python3 /opt/sims/tendon/sims/*/bin/python; do if command -v "$python" >/dev/null; then '
    '"$python" -c "$0"; fi; done'
)


@dataclass(frozen=True)
class Sources:
    """Where a build takes what is not in the checkout."""

    base: str = ""
    ca_bundle: str = ""
    wheels: str = ""
    torch_index: str = ""
    network: str = ""
    registry: str = ""


@dataclass(frozen=True)
class Built:
    """One image; ``reference`` is what a cluster should be given."""

    kind: str
    variant: str
    tag: str
    image_id: str
    reference: str
    megabytes: int
    seconds: float
    reused: bool


def context_files(wheels: Sequence[Path] = (), ca_bundle: str = "") -> Iterator[tuple[str, Path]]:
    """Name inside the build context and file of everything that a build sees; sources only, nothing generated."""
    for source in SOURCES:
        path = ROOT / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts and not file.parent.name.endswith(".egg-info"):
                yield file.relative_to(ROOT).as_posix(), file
    for wheel in wheels:
        yield f"docker/extra/wheels/{wheel.name}", wheel
    if ca_bundle:
        yield "docker/extra/ca.crt", Path(ca_bundle)


def content_digest(kind: str, variant: str, base: str) -> str:
    """Changes when what goes into the image does: its recipe, the sources, the versions, the base's name."""
    found = hashlib.sha256(f"{kind} {variant} {base}".encode())
    for name, file in [(f"docker/{kind}.Dockerfile", ROOT / "docker" / f"{kind}.Dockerfile"), *context_files()]:
        if name != "README.md":  # it is packaged, but changes nothing that runs
            found.update(f"\n{name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return found.hexdigest()[:12]


def build(client: Any, kind: str, variant: str, sources: Sources) -> Built:
    """Build one image unless it is there, and prove it healthy."""
    base = sources.base or _default_base(kind)
    digest = content_digest(kind, variant, base)
    name = "/".join(filter(None, (sources.registry.rstrip("/"), f"tendon-{kind}")))
    tag = f"{name}:{VERSION}-{variant}-{digest}"
    started = time.monotonic()
    image, reused = _find(client, tag), True
    if image is None:
        reused = False
        _build(client, kind, tag, digest, base, _wheels(variant, kind, sources), sources)
        image = client.images.get(tag)
    seconds = time.monotonic() - started
    image.tag(f"tendon-{kind}", VERSION)  # the name that the committed pipelines use
    check_health(client, kind, tag)
    return Built(kind, variant, tag, image.id, tag, round(image.attrs["Size"] / 1e6), round(seconds, 1), reused)


def _build(client: Any, kind: str, tag: str, digest: str, base: str, wheels: list[Path], sources: Sources) -> None:
    pip = {name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if os.environ.get(name)}
    arguments = pip | {"BASE": base, "VERSION": VERSION, "REVISION": _revision(), "IMAGE": tag}
    if sources.torch_index and kind != "data":
        arguments["TORCH_INDEX"] = sources.torch_index
    words: list[str] = []
    stream = client.api.build(
        fileobj=_context(kind, wheels, sources.ca_bundle),
        custom_context=True,
        encoding="gzip",
        dockerfile=f"docker/{kind}.Dockerfile",
        tag=tag,
        buildargs=arguments,
        labels={CONTENT: digest},
        network_mode=sources.network or None,
        rm=True,
        forcerm=True,
        decode=True,
    )
    for event in stream:
        words += str(event.get("stream", "")).splitlines()
        if "error" in event:
            tail = "\n       ".join(word for word in words[-12:] if word.strip())
            raise TendonError(
                f"the {kind} image cannot be built",
                where=f"docker/{kind}.Dockerfile",
                why=f"{event['error']}\n       {tail}",
                fix="see docker/README.md about the base, the index, certificates and wheels",
            )


def _context(kind: str, wheels: list[Path], ca_bundle: str) -> io.BytesIO:
    """The build context as a tar, with the same bytes for the same files."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz", compresslevel=1) as tar:
        recipe = (f"docker/{kind}.Dockerfile", ROOT / "docker" / f"{kind}.Dockerfile")
        for name, file in [recipe, *context_files(wheels, ca_bundle)]:
            entry = tar.gettarinfo(str(file), name)
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            with file.open("rb") as content:
                tar.addfile(entry, content)
    held.seek(0)
    return held


def _wheels(variant: str, kind: str, sources: Sources) -> list[Path]:
    """Torch's CPU wheel where a folder has one; an error where a CPU image has no way to get it."""
    if kind == "data" or variant == "cuda":
        return []
    found = sorted(Path(sources.wheels).glob("torch-*+cpu*.whl")) if sources.wheels else []
    if not found and not sources.torch_index:
        raise ConfigError(
            f"the {kind} image wants torch for the CPU, and nothing says where to get it",
            where="--torch-index, --wheels",
            why="the usual index has the CUDA build only, which is ten times as large",
            fix="--torch-index URL of PyTorch's CPU index (pytorch.org, Get started), or --wheels FOLDER, or --variant cuda",
        )
    return found


def check_health(client: Any, kind: str, tag: str) -> dict[str, str]:
    """Run ``tendon doctor`` in the image as a pod would: any user, nothing writable but /tmp, no rights, no network."""
    said = in_image(client, tag, ["sh", "-c", "tendon doctor; python3 -c 'import kfp.dsl.executor_main'"])
    lines = {}
    for line in said.splitlines():
        if line[:4] in ("PASS", "WARN", "FAIL", "SKIP"):
            lines[line[6:].split("  ")[0].strip()] = line[:4]
    wrong = [name for name, status in lines.items() if status == "FAIL"]
    wrong += [name for name, status in HEALTHY[kind].items() if lines.get(name) != status]
    if wrong or "Traceback" in said:
        raise TendonError(
            f"the {kind} image is not healthy",
            where=tag,
            why=f"tendon doctor inside it: {', '.join(wrong) or 'a traceback'}\n{said}",
            fix=f"docker run --rm {tag} tendon doctor",
        )
    return lines


def in_image(client: Any, tag: str, command: list[str]) -> str:
    """What a command says in a locked-down container of the image."""
    said = client.containers.run(
        tag,
        command,
        remove=True,
        read_only=True,
        tmpfs={"/tmp": "size=1g,mode=1777"},  # noqa: S108 - inside the container
        user="12345:0",
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        environment={"_KFP_RUNTIME": "true"},
        stderr=True,
    )
    return str(said.decode(errors="replace"))


def push(client: Any, built: Built) -> Built:
    """Push one image; its reference is then the registry's digest."""
    name, _, tag = built.tag.rpartition(":")
    for event in client.images.push(name, tag=tag, stream=True, decode=True):
        if "error" in event:
            raise TendonError(f"{built.tag} cannot be pushed", where=name, why=event["error"], fix="docker login")
    digests = client.images.get(built.tag).attrs["RepoDigests"]
    reference = next((digest for digest in digests if digest.startswith(f"{name}@")), built.tag)
    return Built(**{**asdict(built), "reference": reference})


def sbom(client: Any, built: Built) -> dict[str, Any]:
    """Every Python and Debian package in the image, as CycloneDX."""
    said = in_image(client, built.tag, ["sh", "-c", EVERY_PYTHON, LISTING]).splitlines()
    python = sorted({tuple(pair) for line in said if line.startswith("[[") for pair in json.loads(line)})
    debian = in_image(client, built.tag, ["dpkg-query", "-W", "-f", "${Package} ${Version}\n"]).splitlines()
    parts = [{"type": "library", "name": n, "version": v, "purl": f"pkg:pypi/{n.lower()}@{v}"} for n, v in python]
    for name, version in (line.split() for line in debian):
        parts.append({"type": "library", "name": name, "version": version, "purl": f"pkg:deb/debian/{name}@{version}"})
    subject = {"type": "container", "name": f"tendon-{built.kind}", "version": built.reference}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": subject},
        "components": parts,
    }


def publishing(table: dict[str, Any]) -> str:
    """The form fields that give a run these very images, as ``submit.py`` and the form of the UI take them."""
    return "\n".join(f"cluster_image_{kind}={built['reference']}" for kind, built in table.items())


def write_release(table: dict[str, Any], path: Path = RELEASED) -> None:
    """The references by digest that the pipelines' defaults will name: ``components/images.py`` reads this file.

    Raises:
        ConfigError: an image is missing, or was not pushed and so has no digest in a registry.
    """
    lacking = [kind for kind in IMAGES if "@sha256:" not in table.get(kind, {}).get("reference", "")]
    if lacking:
        raise ConfigError(
            f"a release wants every image by digest, and {', '.join(lacking)} has none",
            where=str(IMAGES_FILE),
            why="it was not built, or not pushed: a registry gives the digest",
            fix="docker/build.py --registry HOST/PATH --push --release, without naming a KIND",
        )
    named = {kind: table[kind]["reference"].split(f"tendon-{kind}@") for kind in IMAGES}
    registries = sorted({registry for registry, _ in named.values()})
    if len(registries) > 1:
        raise ConfigError(
            "the images of a release are in different registries",
            where=str(IMAGES_FILE),
            why=", ".join(registries),
            fix="push all of them with one --registry",
        )
    digests = {kind: digest for kind, (_, digest) in named.items()}
    release = {"version": VERSION, "registry": registries[0], "digests": digests}
    path.write_text(json.dumps(release, indent=1) + "\n", encoding="utf-8")


def pin_bases(client: Any, folder: Path = ROOT / "docker") -> dict[str, str]:
    """Write the digest that the registry has today for each Dockerfile's base beside its tag; base to its digest."""
    digests: dict[str, str] = {}
    for path in sorted(folder.glob("*.Dockerfile")):
        text = path.read_text(encoding="utf-8")
        base = _base_of(text)
        tag = base.partition("@")[0]
        if tag not in digests:
            digests[tag] = str(client.images.get_registry_data(tag).id)
        path.write_text(text.replace(f"ARG BASE={base}\n", f"ARG BASE={tag}@{digests[tag]}\n"), encoding="utf-8")
    return digests


def _default_base(kind: str) -> str:
    return _base_of((ROOT / "docker" / f"{kind}.Dockerfile").read_text(encoding="utf-8"))


def _base_of(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("ARG BASE=")).partition("=")[2]


def _revision() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _find(client: Any, tag: str) -> Any:
    import docker

    try:
        return client.images.get(tag)
    except docker.errors.ImageNotFound:
        return None


def _client() -> Any:
    try:
        import docker
    except ImportError:
        raise MissingDependency(
            "docker's Python package is not installed", where=sys.executable, why="no module docker", fix="make setup"
        ) from None
    try:
        client = docker.from_env(timeout=3600)
        client.ping()
    except docker.errors.DockerException as error:
        raise MissingDependency(
            "no container engine answers", where="DOCKER_HOST", why=str(error)[:200], fix="start docker"
        ) from None
    return client


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(prog="build.py", description="Build the images.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(IMAGES)}; all when left out")
    parser.add_argument("--variant", choices=["cpu", "cuda"], help="default: train cuda, sim cpu")
    parser.add_argument("--base", default="", help="base image, when the usual one cannot be pulled")
    parser.add_argument("--registry", default="", help="HOST/PATH that the images are named after")
    parser.add_argument("--push", action="store_true", help="push what was built; needs --registry")
    parser.add_argument(
        "--release", action="store_true", help=f"also write {RELEASED.relative_to(ROOT)}: defaults of the pipelines"
    )
    parser.add_argument("--pin", action="store_true", help="only: today's digests of the bases into the Dockerfiles")
    parser.add_argument("--ca-bundle", default=os.environ.get("PIP_CERT", ""), help="certificates for pip (PIP_CERT)")
    parser.add_argument(
        "--wheels", default=os.environ.get("PIP_FIND_LINKS", ""), help="folder of wheels (PIP_FIND_LINKS)"
    )
    parser.add_argument("--torch-index", default="", help="index that has torch's CPU build")
    parser.add_argument("--network", default="", help="network of the build, e.g. host")
    parser.add_argument("--sbom", action="store_true", help="also write build/sbom-KIND.json (CycloneDX)")
    options = parser.parse_args(words)
    with reported("build"):
        if unknown := set(options.kinds) - set(IMAGES):
            raise ConfigError(
                f"no such image: {', '.join(unknown)}", where="KIND", why="unknown", fix=f"one of {', '.join(IMAGES)}"
            )
        if options.push and not options.registry:
            raise ConfigError(
                "where to push is not said", where="--registry", why="it is empty", fix="--registry HOST/PATH"
            )
        if options.release and not options.push:
            raise ConfigError(
                "a release names images in a registry",
                where="--release",
                why="--push is missing",
                fix="--push --release",
            )
        if options.pin:
            for tag, digest in pin_bases(_client()).items():
                print(f"{tag}@{digest}")
            return 0
        wheels = options.wheels if Path(options.wheels or "?").is_dir() else ""
        sources = Sources(
            options.base, options.ca_bundle, wheels, options.torch_index, options.network, options.registry
        )
        _all(options.kinds or list(IMAGES), options.variant, sources, push_them=options.push, with_sbom=options.sbom)
        if options.push:
            table = json.loads(IMAGES_FILE.read_text(encoding="utf-8"))
            print(publishing(table))
        if options.release:
            write_release(table)
            print(f"wrote {RELEASED.relative_to(ROOT)}; next: make compile, and commit both")
    return 0


def _all(kinds: Sequence[str], variant: str | None, sources: Sources, *, push_them: bool, with_sbom: bool) -> None:
    client = _client()
    IMAGES_FILE.parent.mkdir(exist_ok=True)
    table = json.loads(IMAGES_FILE.read_text()) if IMAGES_FILE.exists() else {}
    for kind in kinds:
        built = build(client, kind, variant or VARIANTS[kind] if kind != "data" else "cpu", sources)
        if push_them:
            built = push(client, built)
        table[kind] = asdict(built)
        IMAGES_FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        if with_sbom:
            path = IMAGES_FILE.with_name(f"sbom-{kind}.json")
            path.write_text(json.dumps(sbom(client, built), indent=1) + "\n", encoding="utf-8")
        how = "unchanged" if built.reused else f"built in {built.seconds:.0f} s"
        print(f"{kind:<6} {built.megabytes:>6} MB  {how}  healthy  {built.reference}", flush=True)
    print(f"wrote {IMAGES_FILE.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
