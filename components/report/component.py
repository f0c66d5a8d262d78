"""The component of the step ``report``; the work is in tendon.steps.report."""

from typing import NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def report(run_uri: str, report: dsl.Output[dsl.HTML]) -> NamedTuple(
    "Outputs", [("report_uri", str), ("record_uri", str)]
):
    """Write one page that opens offline, and the record that says where every number comes from.

    Args:
        run_uri: The run that plan made.
        report: The report, self-contained.

    Returns:
        report_uri: Where the report is kept.
        record_uri: Where the record is kept.
    """
    from tendon import errors, logs, steps

    logs.setup("report")
    with errors.reported("report"):
        result = steps.report(run_uri=run_uri)
    report.metadata["display_name"] = "report"
    with open(report.path, "w", encoding="utf-8") as file:
        file.write(result.html)
    return (result.report_uri, result.record_uri)
