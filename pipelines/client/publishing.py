"""Make sure that Kubeflow has this very YAML as a version of its pipeline, with a description that the UI can show."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.images import IMAGES, VERSION
from pipelines.client.connection import Connection
from pipelines.client.forms import Form, prefixed

MOST_IN_ADDRESS = 7000  # a version's description travels in the address of the upload; proxies end at 8 KiB
MOST_DEFAULT = 60


def publish(connection: Connection, form: Form, *, image_prefix: str = "") -> str:
    """Upload the YAML as a version when it changed; the version's id."""
    import kfp_server_api as api

    client = connection.client
    with with_prefix(form, image_prefix) as form:
        version_name = f"{VERSION}-{form.digest()}"
        pipeline_id = connection.ask(lambda: client.get_pipeline_id(form.name))
        if pipeline_id is None:
            fresh = api.V2beta1Pipeline(
                display_name=form.name,
                name=form.name,
                description=description(form),
                namespace=connection.asked_namespace if connection.target.namespace else None,
            )
            made = connection.ask(lambda: client._pipelines_api.pipeline_service_create_pipeline(fresh))
            pipeline_id = made.pipeline_id
        link = connection.link("pipelines/details", pipeline_id)
        for version in connection.pages("pipeline_versions", client.list_pipeline_versions, pipeline_id=pipeline_id):
            if version.display_name == version_name:
                print(f"{form.name} {version_name}: there already, {link}")
                return str(version.pipeline_version_id)
        made = connection.ask(
            lambda: client.upload_pipeline_version(
                str(form.path),
                pipeline_version_name=version_name,
                pipeline_id=pipeline_id,
                description=short_description(form),
            )
        )
    print(f"{form.name} {version_name}: published, {link}", flush=True)
    return str(made.pipeline_version_id)


def description(form: Form, *, most_help: int = 0) -> str:
    """Markdown: what the pipeline does, and a table of its parameters; ``most_help`` cuts the help texts."""
    about = form.description.partition("\n\nArgs:")[0].strip()
    rows = ["| parameter | default | what it is |", "|---|---|---|"]
    for name, field in form.fields.items():
        text = field.help if not most_help or len(field.help) <= most_help else f"{field.help[: most_help - 3]}..."
        rows.append(f"| `{name}` | {_default(field.default)} | {_cell(text)} |")
    return f"{about}\n\n" + "\n".join(rows)


def short_description(form: Form) -> str:
    """The same, with help texts as short as the address of the upload needs."""
    for most_help in (0, 160, 120, 90, 60, 30):
        text = description(form, most_help=most_help)
        if len(urllib.parse.quote(text)) <= MOST_IN_ADDRESS:
            return text
    return description(form, most_help=1)[: MOST_IN_ADDRESS // 3]


def _default(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    shown = text if len(text) <= MOST_DEFAULT else f"{text[: MOST_DEFAULT - 3]}..."
    return f"`{_cell(shown)}`" if shown else "empty"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


@contextmanager
def with_prefix(form: Form, prefix: str) -> Iterator[Form]:
    """The form with its images below another registry, as a YAML of its own; unchanged without a prefix."""
    if not prefix:
        yield form
        return
    from pipelines.compile import for_cluster

    images = {kind: prefixed(reference, prefix) for kind, reference in IMAGES.items()}
    with TemporaryDirectory() as folder:
        path = Path(folder) / form.path.name
        path.write_text(for_cluster(form.path.read_text(encoding="utf-8"), images), encoding="utf-8")
        yield replace(Form.of(str(path)), path=path)
