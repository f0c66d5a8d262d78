"""From demonstrations to a dataset with statistics, as a pipeline inside the others: a worker per share, then the statistics.

A pipeline of its own because kfp's local engine loops over a pipeline's input, but not over a step's named output.
"""

from kfp import dsl

from components.convert.component import convert
from components.stats.component import stats
from pipelines.resources import Place


@dsl.pipeline(name="conversion")
def conversion(
    shares: list,
    source_uri: str,
    source_digest: str,
    store_uri: str,
    dataset_name: str,
    dataset_uri: str,
    conversion_options: dict,
    image_data: str,
):
    """Convert the demonstrations, each worker its share and the last one commits; then compute the statistics."""
    place = Place(image_data=image_data)
    with dsl.ParallelFor(items=shares, name="workers") as worker:
        converted = place.put(
            convert(
                source_uri=source_uri,
                source_digest=source_digest,
                store_uri=store_uri,
                dataset_name=dataset_name,
                dataset_uri=dataset_uri,
                conversion=conversion_options,
                worker=worker,
            ),
            "data",
        )
    place.put(stats(dataset_uri=dataset_uri, digests=dsl.Collected(converted.outputs["digest"])), "data")
