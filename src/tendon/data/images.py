"""Prepares images for a shard: resized, in another codec, or unchanged. Pure.

``planned_cameras`` says what a conversion makes of the source's cameras, ``prepared`` does it for one episode. Resizing
is a triangle filter in whole numbers, so that every machine writes the same bytes. Called by plan and convert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np

from tendon.data.episode import Camera, Episode, Frames, LazyImages, Mask, Masks, Schema, VideoChunk
from tendon.data.masks import RunLengths, nearest
from tendon.data.sources.source import SourceInfo
from tendon.errors import ConfigError, DataError

MAX_RAW = 64  # pixels; larger frames are not kept raw
BITS = 12  # of the filter's weights


def planned_cameras(cameras: Sequence[Camera], resize: tuple[int, int] | None, codec: str) -> tuple[Camera, ...]:
    """The cameras as they will be stored; ``codec`` "" keeps what the source has, a resized video becomes mjpeg.

    Raises:
        ConfigError: raw frames would be too large, or the size is not one.
    """
    if resize is not None and (len(resize) != 2 or min(resize) < 1):
        raise _wrong("a size is two numbers of at least 1", f"it is {resize}", "resize=[224,224] (height, width)")
    planned = []
    for camera in cameras:
        height, width = resize or (camera.height, camera.width)
        if camera.kind == "depth":  # numbers, which no codec of pictures keeps
            planned.append(replace(camera, height=height, width=width))
            continue
        changed = (height, width) != (camera.height, camera.width) or codec not in ("", camera.codec)
        chosen = codec or ("mjpeg" if changed else camera.codec)
        if codec == "npy" and max(height, width) > MAX_RAW:  # an exact copy has them in any size
            why = f"{camera.name} has {height} x {width} pixels, raw frames may have {MAX_RAW}"
            raise _wrong("raw frames are too large", why, "codec=mjpeg, or resize=[64,64]")
        video = {} if chosen == "mp4" else {"encoding": "", "fps": 0.0, "chunk": 0}
        planned.append(replace(camera, height=height, width=width, codec=chosen, **cast("dict[str, Any]", video)))
    return tuple(planned)


def planned_masks(masks: Sequence[Mask], resize: tuple[int, int] | None) -> tuple[Mask, ...]:
    """The masks as they will be stored; their size follows that of the cameras."""
    height, width = resize or (0, 0)
    return tuple(replace(each, height=height, width=width) if resize else each for each in masks)


def prepared(episode: Episode, planned: Schema, info: SourceInfo) -> Episode:
    """The episode with images as ``planned``, made when they are read. Images that fit already are not touched.

    Raises:
        DataError: a mask does not fit the schema.
    """
    uri = info.uri

    def frames_of(camera: Camera) -> Frames:
        frames = episode.images[camera.name]
        _check_number(frames, camera, episode, uri)
        return cast("Frames", _as_planned(frames, camera, episode.length, planned.fps))

    of_source = {each.name: each for each in info.schema.masks}
    masks = {each.name: _planned_mask(episode, of_source[each.name], each, uri) for each in planned.masks}
    images = LazyImages({camera.name: partial(frames_of, camera) for camera in planned.cameras})
    return replace(episode, images=images, masks=masks)


def resized(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """``uint8 [T, H, W, C]`` in another size; each output pixel is the weighted mean of what it covers."""
    if frames.shape[1:3] == (height, width):
        return frames
    out = np.empty((len(frames), height, width, frames.shape[3]), np.uint8)
    for frame, target in zip(frames, out, strict=True):  # frame by frame: the sums stay in the cache
        target[:] = _along(_along(frame, height, 0), width, 1)
    return out


def _check_number(frames: Frames, camera: Camera, episode: Episode, uri: str) -> None:
    chunks = [each for each in frames if isinstance(each, VideoChunk)] if isinstance(frames, tuple) else []
    num = sum(each.num_frames for each in chunks) if chunks else len(frames)
    if num != episode.length:
        raise DataError(
            f"{camera.name} has {num} frames in {episode.episode_id}, its table has {episode.length} steps",
            where=f"{uri}, {episode.episode_id}, {camera.name}",
            why="every step needs its frame",
            fix=f"data.skip_episodes=[{episode.episode_id}], or record it again",
        )


def _planned_mask(episode: Episode, of: Mask, planned: Mask, uri: str) -> Masks:
    """A mask in the planned size."""
    masks = episode.masks[of.name]
    if isinstance(masks, RunLengths):
        why = (
            f"its runs reach pixel {masks.end} of {of.height} x {of.width}" if masks.end > of.height * of.width else ""
        )
    else:
        why = f"its pictures are {masks.shape[1:]}" if masks.shape[1:] != (of.height, of.width) else ""
    if len(masks) != episode.length:
        why = f"it has {len(masks)} masks, the episode has {episode.length} steps"
    if why:
        raise DataError(
            f"{of.name} does not fit in {episode.episode_id}",
            where=f"{uri}, {episode.episode_id}, {of.name}",
            why=why,
            fix=f"data.skip_episodes=[{episode.episode_id}], or record it again",
        )
    size, target = (of.height, of.width), (planned.height, planned.width)
    if isinstance(masks, RunLengths) and planned.codec == "bits":
        masks = masks.decoded(*size)
    if size == target:
        return masks
    return masks.resized(size, target) if isinstance(masks, RunLengths) else nearest(masks, target)


def _as_planned(frames: Any, camera: Camera, length: int, fps: float) -> Any:
    from tendon.data.video import decode_chunks, decode_jpegs, encode_chunks

    if isinstance(frames, tuple):
        is_video = bool(frames) and isinstance(frames[0], VideoChunk)
        same_codec = camera.codec != "npy" and is_video == (camera.codec == "mp4")
        if same_codec and (is_video or not frames or _jpeg_size(frames[0]) == (camera.height, camera.width)):
            return frames
        frames = decode_chunks(list(frames), range(length)) if is_video else decode_jpegs(frames, camera.channels)
    if camera.kind == "depth":
        return np.asarray(nearest(frames, (camera.height, camera.width)), np.float32)
    frames = resized(frames, camera.height, camera.width)
    return encode_chunks(frames, camera.fps or fps, camera.chunk or len(frames)) if camera.codec == "mp4" else frames


def _jpeg_size(content: bytes) -> tuple[int, int]:
    import simplejpeg

    height, width, *_ = simplejpeg.decode_jpeg_header(content)
    return int(height), int(width)


def _along(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Filter one axis of a frame."""
    sources, weights = _taps(values.shape[axis], size)
    shape = [1, 1, 1]
    shape[axis] = size
    total = np.zeros((*values.shape[:axis], size, *values.shape[axis + 1 :]), np.int32)
    for source, weight in zip(sources, weights, strict=True):
        total += np.take(values, source, axis).astype(np.int32) * weight.reshape(shape)
    return ((total + (1 << (BITS - 1))) >> BITS).astype(np.uint8)


@lru_cache(64)
def _taps(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """For every output place the inputs it sees and their weights, which add up to ``1 << BITS`` exactly."""
    scale = before / after
    reach = max(scale, 1.0)
    centers = (np.arange(after) + 0.5) * scale - 0.5
    first = np.ceil(centers - reach).astype(np.int64)
    sources = first[None] + np.arange(int(np.ceil(2 * reach)) + 1)[:, None]
    weights = np.clip(1 - np.abs(sources - centers) / reach, 0, None)
    weights[(sources < 0) | (sources >= before)] = 0
    whole = np.floor(weights / weights.sum(0) * (1 << BITS) + 0.5).astype(np.int32)
    whole[whole.argmax(0), np.arange(after)] += (1 << BITS) - whole.sum(0)
    used = whole.any(1)
    return np.clip(sources, 0, before - 1)[used], whole[used]


def _wrong(what: str, why: str, fix: str) -> ConfigError:
    return ConfigError(what, where="the options of the conversion", why=why, fix=fix)
