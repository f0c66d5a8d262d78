"""build.py without an engine: what a tag depends on, what a build sees, what a sick image says."""

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from components.images import IMAGES, VERSION, read_release
from tendon.errors import ConfigError, TendonError

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"


def load(name):
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = load("build")
pin = load("pin")


def test_there_is_a_recipe_and_a_health_rule_for_every_image():
    assert {path.name.split(".")[0] for path in DOCKER.glob("*.Dockerfile")} == set(IMAGES) == set(build.HEALTHY)
    assert set(build.VARIANTS) == set(IMAGES)


@pytest.mark.parametrize("kind", IMAGES)
def test_recipes_are_multi_stage_non_root_and_pin_what_they_install(kind):
    text = (DOCKER / f"{kind}.Dockerfile").read_text()
    stages = [line for line in text.splitlines() if line.startswith("FROM ")]
    last = text.rpartition("\nFROM ")[2]
    assert len(stages) >= 2
    assert "USER 10001:0" in last
    assert "COPY --from=build" in last
    assert "ENTRYPOINT" not in text, "kfp's docker runner gives a command"
    assert "org.opencontainers.image.revision" in last
    assert "/opt/extra" not in last, "what only the build needs stays in its stage"
    assert "constraints.txt" in text
    assert "PIP_INDEX_URL" not in last


def test_the_tag_changes_with_what_goes_in_and_with_nothing_else(monkeypatch, tmp_path):
    first = build.content_digest("data", "cpu", "base")
    assert first == build.content_digest("data", "cpu", "base")
    others = [("train", "cpu", "base"), ("data", "cuda", "base"), ("data", "cpu", "other")]
    assert len({first, *(build.content_digest(*one) for one in others)}) == 4
    monkeypatch.setattr(build, "SOURCES", (*build.SOURCES, "Makefile"))
    assert build.content_digest("data", "cpu", "base") != first


def test_a_build_sees_sources_only_and_the_same_bytes_each_time(tmp_path):
    (tmp_path / "ca.crt").write_text("certificate")
    contexts = [build._context("data", [], str(tmp_path / "ca.crt")).getvalue() for _ in range(2)]
    held = build._context("data", [], str(tmp_path / "ca.crt"))
    with tarfile.open(fileobj=held) as tar:
        names = tar.getnames()
    assert {"docker/data.Dockerfile", "pyproject.toml", "constraints.txt", "docker/extra/ca.crt"} <= set(names)
    assert "src/tendon/steps.py" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".git", "tests", "outputs"))]
    assert len({hashlib.sha256(context[10:]).hexdigest() for context in contexts}) == 1


def test_a_cpu_image_needs_to_know_where_torch_comes_from(tmp_path):
    with pytest.raises(ConfigError, match="torch"):
        build._wheels("cpu", "train", build.Sources())
    (tmp_path / "torch-2.0.0+cpu-cp311-x.whl").write_text("")
    assert build._wheels("cpu", "sim", build.Sources(wheels=str(tmp_path)))
    assert build._wheels("cuda", "train", build.Sources(wheels=str(tmp_path))) == []
    assert build._wheels("cpu", "data", build.Sources()) == []


class Engine:
    """Says what the doctor in an image would say."""

    def __init__(self, said):
        self.containers, self.said, self.asked = self, said, {}

    def run(self, tag, command, **options):
        self.asked = options
        return self.said.encode()


WELL = "PASS  packages: core  x\nWARN  torch  not installed\nPASS  store  outputs\nPASS  video  h264\n"


def test_health_is_what_the_doctor_says_under_a_pods_conditions():
    engine = Engine(WELL)
    assert build.check_health(engine, "data", "tag")["store"] == "PASS"
    assert engine.asked["read_only"]
    assert engine.asked["network_mode"] == "none"
    assert engine.asked["cap_drop"] == ["ALL"]
    assert not engine.asked["user"].startswith("0")


@pytest.mark.parametrize(
    "said",
    [WELL.replace("PASS  store", "FAIL  store"), WELL.replace("WARN  torch", "PASS  torch"), "", WELL + "Traceback"],
    ids=["fail", "torch in the data image", "silence", "traceback"],
)
def test_a_sick_image_is_refused(said):
    with pytest.raises(TendonError, match="not healthy"):
        build.check_health(Engine(said), "data", "tag")


def test_the_list_of_parts_has_every_interpreters_packages_and_the_systems():
    class Parts:
        def run(self, tag, command, **options):
            python = '[["numpy", "2.4.6"], ["boto3", "1.44"]]\n[["numpy", "1.26"], ["mujoco", "3.3"]]\n'
            return (python if command[0] == "sh" else "libc6 2.36\nlibegl1 1.6\n").encode()

    engine = Parts()
    engine.containers = engine
    made = build.sbom(engine, build.Built("sim", "cpu", "tag", "id", "host/tendon-sim@sha256:0", 1, 1.0, reused=False))
    assert made["metadata"]["component"]["version"] == "host/tendon-sim@sha256:0"
    urls = [part["purl"] for part in made["components"]]
    assert {"pkg:pypi/mujoco@3.3", "pkg:pypi/numpy@1.26", "pkg:pypi/numpy@2.4.6", "pkg:deb/debian/libc6@2.36"} <= set(
        urls
    )
    assert len(urls) == len(set(urls)) == 6


def test_compose_offers_a_store_and_our_images_without_a_password_in_it():
    made = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert {"store", "bucket", "run"} <= set(made["services"])
    for service in made["services"].values():
        for value in (service.get("environment") or {}).values():
            assert "SECRET" not in str(value) or "${" in str(value)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_demo_checks_the_store_and_not_the_word_of_the_engine(tmp_path):
    demo = load("demo")
    store = tmp_path / "store"
    with pytest.raises(TendonError, match="did not leave"):
        demo.check(str(store))
    for name in ("d/manifest.json", "d/stats/train.json", "t/bundle/.complete.json", "r/report.html"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text("{}")
    (store / "r" / "confirmation.json").write_text(json.dumps({"verdict": {"sentence": "better"}}))
    demo.check(str(store))


REQUIREMENTS = sorted((DOCKER / "requirements").glob("*.txt"))
LINE = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}")


def pinned(path):
    """Package to version; a line without a hash does not match."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if not match]
    return dict(match.groups() for match in matches)


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_every_pinned_line_has_a_hash_and_the_version_of_the_constraints(path):
    versions = pin.constraints((ROOT / "constraints.txt").read_text())
    packages = pinned(path)
    differ = {
        name: (version, versions[name]) for name, version in packages.items() if versions.get(name, version) != version
    }
    assert not differ, "python docker/pin.py"
    unknown = [name for name in packages if name not in versions and not pin.CUDA.match(name)]
    assert set(unknown) <= {"setuptools"}, "what is not torch's CUDA libraries is in constraints.txt"
    assert not re.search(r"https?://|file:|/opt/|index", path.read_text()), "no address of the machine that made it"


def test_the_requirements_of_the_images_are_those_of_the_project():
    pytest.importorskip("tomllib")
    packages = {path.stem: pinned(path) for path in REQUIREMENTS}
    assert set(packages) == {"build", "kfp", "data", "train", "train-cpu"}
    for name, (requirements, _) in pin.requirement_sets().items():
        direct = {pin.canonical(re.split(r"[<>=!~\[ ]", text)[0]) for text in requirements}
        assert direct <= set(packages[name]), "python docker/pin.py"
    without_torch = {name: version for name, version in packages["train"].items() if not pin.CUDA.match(name)}
    assert packages["train-cpu"] == without_torch
    assert packages["data"].items() <= packages["train-cpu"].items()


def test_the_images_install_with_hashes_what_a_build_sees():
    text = (DOCKER / "install.sh").read_text()
    assert "--require-hashes" in text
    assert "--no-build-isolation" in text, "what builds a package would be fetched without a hash"
    names = {name for name, _ in build.context_files()}
    assert {f"docker/requirements/{path.name}" for path in REQUIREMENTS} <= names
    for kind in IMAGES:
        assert "COPY docker/requirements ./docker/requirements" in (DOCKER / f"{kind}.Dockerfile").read_text()


def test_a_file_that_was_built_on_this_machine_is_not_pinned():
    report = {
        "metadata": {"name": "av", "version": "1"},
        "download_info": {"url": "file:///wheels/av.whl", "archive_info": {"hashes": {"sha256": "0" * 64}}},
    }
    with pytest.raises(TendonError, match="does not come from an index"):
        pin.pinned_lines([report])


@pytest.mark.parametrize("kind", IMAGES)
def test_bases_are_named_by_digest(kind):
    assert re.fullmatch(r"[a-z0-9./:-]+:[\w.-]+@sha256:[0-9a-f]{64}", build._default_base(kind))


def test_pin_writes_todays_digest_of_the_tag(tmp_path):
    class Registry:
        def get_registry_data(self, tag):
            assert tag == "python:3.11-slim-bookworm"
            return type("Data", (), {"id": "sha256:" + "b" * 64})

    registry = Registry()
    registry.images = registry
    for kind in IMAGES:
        (tmp_path / f"{kind}.Dockerfile").write_bytes((DOCKER / f"{kind}.Dockerfile").read_bytes())
    assert build.pin_bases(registry, tmp_path) == {"python:3.11-slim-bookworm": "sha256:" + "b" * 64}
    for kind in IMAGES:
        text = (tmp_path / f"{kind}.Dockerfile").read_text()
        assert f"ARG BASE=python:3.11-slim-bookworm@sha256:{'b' * 64}\n" in text


def test_a_release_names_every_image_by_digest(tmp_path):
    path = tmp_path / "released_images.json"
    assert read_release(path) == ("", {})
    digest = f"sha256:{'c' * 64}"
    table = {kind: {"reference": f"host/tendon-{kind}@{digest}"} for kind in IMAGES}
    with pytest.raises(ConfigError, match="sim has none"):
        build.write_release({**table, "sim": {"reference": "host/tendon-sim:0.1.0-cpu-123"}}, path)
    with pytest.raises(ConfigError, match="different registries"):
        build.write_release({**table, "sim": {"reference": f"other/tendon-sim@{digest}"}}, path)
    assert not path.exists()
    build.write_release(table, path)
    assert read_release(path) == ("host/", dict.fromkeys(IMAGES, digest))
    assert f"cluster_image_sim=host/tendon-sim@{digest}" in build.publishing(table)
    path.write_text(path.read_text().replace(VERSION, "0.0.1"))
    assert read_release(path) == ("", {}), "a release of another version is not these sources"


def test_the_pipelines_defaults_are_those_of_a_release(tmp_path):
    """As an import of components/images.py beside the file of a release sees it."""
    digest = f"sha256:{'c' * 64}"
    (tmp_path / "images.py").write_bytes((ROOT / "components" / "images.py").read_bytes())
    table = {kind: {"reference": f"host/team/tendon-{kind}@{digest}"} for kind in IMAGES}
    build.write_release(table, tmp_path / "released_images.json")
    spec = importlib.util.spec_from_file_location("released_images_of_a_test", tmp_path / "images.py")
    released = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(released)
    assert {kind: table[kind]["reference"] for kind in IMAGES} == released.IMAGES
    assert released.default_images("mirror.example/x")["sim"] == f"mirror.example/x/tendon-sim:{VERSION}"


def test_a_release_needs_a_push(capsys):
    with pytest.raises(SystemExit) as left:
        build.main(["--release"])
    assert left.value.code == 2
    assert "--push" in capsys.readouterr().err


def test_the_step_takes_the_place_of_its_shell_so_that_sigterm_reaches_it():
    from tendon.runner.containers import without_shell
    from tendon.runner.local import default_yaml

    executors = next(yaml.safe_load_all(default_yaml().read_text()))["deploymentSpec"]["executors"]
    for name, executor in executors.items():
        command = executor["container"]["command"]
        sent = without_shell(command)
        assert "exec env _KFP_RUNTIME=true python3 -m kfp.dsl.executor_main" in sent[2], name
        assert [sent[:2], sent[3:]] == [command[:2], command[3:]]


def test_the_files_that_install_a_simulator_are_all_that_it_imports(tmp_path):
    recipe = (DOCKER / "sim.Dockerfile").read_text().replace("\\\n", " ")
    copied = re.findall(r"^COPY (.*) /opt/installer/(\S+)$", recipe, re.MULTILINE)
    for sources, target in copied:
        (tmp_path / target).mkdir(parents=True, exist_ok=True)
        for source in sources.split():
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, tmp_path / target, dirs_exist_ok=True)
            else:
                shutil.copy(path, tmp_path / target)
    look = "import tendon.evaluate.guest; from tendon.evaluate.sims import list_sims; print(*(one.name for one in list_sims()))"
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", look], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert copied
    assert done.returncode == 0, done.stderr
    assert "robosuite" in done.stdout
