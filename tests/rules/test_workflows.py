"""The workflows of GitHub: their shape by its schema, and what they call is there and safe to call."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of(path):
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def scripts_of(path):
    return [step["run"] for step in steps_of(path) if "run" in step]


@every_file
def test_the_shape_is_that_of_a_workflow(path):
    schemas = pytest.importorskip("check_jsonschema.builtin_schemas", reason="pip install check-jsonschema")
    jsonschema = pytest.importorskip("jsonschema")
    made = load(path)
    made["on"] = made.pop(True)  # YAML 1.1 reads the word as a truth value
    schema = schemas.get_builtin_schema("vendor.github-workflows")
    jsonschema.Draft7Validator(schema).validate(made)


@every_file
def test_rights_are_the_least_and_time_is_limited(path):
    made = load(path)
    assert made["permissions"] == {"contents": "read"}
    assert "concurrency" in made
    for job in made["jobs"].values():
        more = {"contents": "write", "id-token": "write", "attestations": "write"} if path.stem == "release" else None
        assert job.get("permissions") == more, "only a release writes"
        assert job["timeout-minutes"] <= 360, "GitHub ends a job after six hours"
        assert re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"])


@every_file
def test_actions_are_pinned_by_commit_and_keep_no_token(path):
    for step in steps_of(path):
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
            if step["uses"].startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@every_file
def test_scripts_parse_and_get_what_they_are_given_through_the_environment_only(path):
    for script in scripts_of(path):
        assert "${{" not in script, "an expression in a script is a way in"
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@every_file
def test_every_command_is_there(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for script in scripts_of(path):
        assert set(re.findall(r"\bmake ([a-z-]+)", script)) <= targets
        for name in re.findall(r"(?:^|\s)((?:[\w.]+/)+[\w.]+)(?=\s|$)", script):
            assert name.startswith(".venv/") or (ROOT / name).exists(), name


def test_ci_builds_the_data_image_and_runs_convert_and_stats_in_it():
    jobs = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert any("make test-images IMAGES=data" in step.get("run", "") for step in jobs["images"]["steps"])
    tests = (ROOT / "tests" / "docker" / "test_images.py").read_text(encoding="utf-8")
    assert "test_convert_and_stats_run_in_the_data_image" in tests


def test_a_release_is_what_the_tag_says_with_images_by_digest_and_a_statement_of_its_origin():
    steps = steps_of(ROOT / ".github" / "workflows" / "release.yml")
    scripts = [step.get("run", "") for step in steps]
    order = [next(at for at, script in enumerate(scripts) if part in script) for part in (
        '= "$TAG"', "--push --release --sbom", "hatchling build", "gh release create",
    )]  # fmt: skip
    assert order == sorted(order)
    assert any(step.get("uses", "").startswith("actions/attest-build-provenance@") for step in steps)


def test_what_is_long_runs_every_week():
    made = load(ROOT / ".github" / "workflows" / "weekly.yml")
    assert made["jobs"]["long"]["strategy"]["matrix"]["what"] == ["bench", "faults", "parity"]
    assert made[True]["schedule"]


def test_every_python_that_the_package_allows_is_tried():
    tomllib = pytest.importorskip("tomllib")
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    matrix = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert lowest == ">=3.10"
    assert matrix == ["3.10", "3.11", "3.12", "3.13"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.name
)
def test_a_form_for_issues_has_the_shape_of_one(path):
    form = load(path)
    assert {"name", "description", "body"} <= set(form)
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "dropdown", "markdown", "checkboxes")
        assert field["attributes"]["label"]
        assert field["id"]
