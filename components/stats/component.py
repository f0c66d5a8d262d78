"""The component of the step ``stats``; the work is in tendon.steps.stats."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def stats(dataset_uri: str, digest: str, statistics: dsl.Output[dsl.Artifact]) -> str:
    """Compute statistics of the train split; flag constant and tiny-span dimensions.

    Args:
        dataset_uri: A converted dataset.
        digest: Digest of its content as the first worker knows it; part of this step's cache key.
        statistics: Mean, deviation, range and quantiles of every feature.

    Returns:
        Where the statistics are.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("stats")
    with errors.reported("stats"):
        result = steps.stats(dataset_uri=dataset_uri)
    statistics.metadata |= {"stats_uri": result.stats_uri, "dataset_digest": digest}
    with open(statistics.path, "w", encoding="utf-8") as file:
        json.dump(result.stats, file)
    return result.stats_uri
