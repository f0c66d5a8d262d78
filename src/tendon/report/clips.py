"""Which recorded episodes the report shows, and the still that stands for each before it plays.

Rows of episodes.jsonl and MP4 bytes come in, Clips go out; called by steps.report.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from tendon.report.summary import Clip

log = logging.getLogger(__name__)


def pick_clips(rows: Iterable[Mapping[str, Any]], per_status: int = 3) -> list[Mapping[str, Any]]:
    """The episodes to show: the first recorded successes and failures in seed order, so that nobody chose them."""
    recorded = sorted((row for row in rows if row.get("video")), key=lambda row: int(row["seed"]))
    picked = []
    for status in ("success", "failure"):
        picked += [row for row in recorded if row["status"] == status][:per_status]
    return picked


def make_clip(row: Mapping[str, Any], mp4: bytes) -> Clip:
    """A Clip of an episode row and its recording."""
    told = ", then ".join(row.get("instructions", ()))
    return Clip(row["status"], int(row["seed"]), int(row["steps"]), mp4, last_frame_jpeg(mp4), told)


def last_frame_jpeg(mp4: bytes) -> bytes:
    """How the episode ended, as JPEG; empty when the recording cannot be decoded (the page then shows no still)."""
    import av
    import simplejpeg

    frame = None
    try:
        with av.open(io.BytesIO(mp4)) as container:
            for frame in container.decode(video=0):  # noqa: B007 - the last one is wanted
                pass
    except (av.FFmpegError, IndexError) as error:
        log.warning("report: a recording of %d bytes cannot be decoded, it gets no still: %s", len(mp4), error)
    if frame is None:
        return b""
    return bytes(simplejpeg.encode_jpeg(frame.to_ndarray(format="rgb24"), quality=80, colorsubsampling="420"))
