"""The component of the step ``convert``; the work is in tendon.steps.convert."""

from typing import NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def convert(
    source_uri: str,
    source_digest: str,
    store_uri: str,
    dataset_name: str,
    dataset_uri: str,
    conversion: dict,
    worker: str,
    trust: str,
    manifest: dsl.Output[dsl.Dataset],
) -> NamedTuple("Outputs", [("dataset_uri", str), ("digest", str)]):
    """Convert demonstrations to WebDataset shards under a content-addressed prefix; resumable, manifest last.

    Args:
        source_uri: Where the demonstrations are.
        source_digest: Their digest; with dataset_uri it makes this step's cache key honest.
        store_uri: The store.
        dataset_name: Name of the dataset.
        dataset_uri: Where plan expects the dataset.
        conversion: Options of the conversion that are not the usual ones, by name: skip_episodes, resize, codec, strict ...
        worker: The share of this pod: K/N is one of N that share the conversion; the last one to finish commits it.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.
        manifest: The dataset's manifest, small; the data stays where dataset_uri says.

    Returns:
        dataset_uri: Where the dataset is.
        digest: Digest of its content.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("convert")
    with errors.reported("convert"):
        steps.allow(trust)
        result = steps.convert(
            source_uri=source_uri,
            source_digest=source_digest,
            store_uri=store_uri,
            dataset_name=dataset_name,
            worker=worker,
            workers=0,
            **conversion,
        )
    manifest.metadata |= {"dataset_uri": result.dataset_uri, "digest": result.digest}
    manifest.metadata |= {"num_episodes": result.num_episodes, "num_frames": result.num_frames}
    with open(manifest.path, "w", encoding="utf-8") as file:
        json.dump(result.manifest, file)
    return (result.dataset_uri, result.digest)
