"""build.py without an engine: what a tag depends on, what a build sees, what a sick image says."""

import hashlib
import importlib.util
import json
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from components.images import IMAGES
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
