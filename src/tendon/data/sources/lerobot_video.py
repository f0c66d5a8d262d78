"""LeRobot's video files: the chunks of an episode, cut at key frames and copied.

lerobot.py reads through it. The frames of an episode are found by time, as LeRobot's own reader finds them.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from tendon.data import mp4
from tendon.data.episode import Camera, VideoChunk
from tendon.data.sources.folder import SourceFolder
from tendon.data.sources.lerobot_layout import EpisodeAt
from tendon.errors import DataError, Problem

MAX_OPEN, MAX_OPEN_FRAMES = 1024, 1 << 21  # whose tables take about 64 bytes each
TOLERANCE_S = 1e-4  # LeRobot's default
ENCODINGS = {b"avc1": "h264", b"avc3": "h264", b"av01": "av1", b"hvc1": "hevc", b"hev1": "hevc", b"vp09": "vp9"}


@dataclass(frozen=True)
class _Open:
    """A video file and its tables."""

    content: memoryview
    track: mp4.Track
    as_is: bool  # the bytes are the source's own


class VideoFiles:
    """Chunks of episodes out of the mp4 files of a folder."""

    def __init__(self, folder: SourceFolder) -> None:
        self.folder = folder
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._frames_open = 0  # in all of them
        self._broken_samples: dict[str, np.ndarray] = {}

    def look(self, key: str) -> tuple[str, int, int]:
        """Encoding, width and height of a video."""
        track = self._file(key).track
        kind = track.boxes["stsd"][20:24]
        return ENCODINGS.get(kind, kind.decode("latin-1").strip()), track.size[0] >> 16, track.size[1] >> 16

    def problems(self, at: EpisodeAt, camera: Camera, times_s: np.ndarray, skip: str) -> list[Problem]:
        """Whether an episode's frames are where the tables say, of the camera's size, and can be decoded."""
        try:
            self.check(at, camera.name, times_s)
            self._check_size(at, camera)
            self._check_bitstream(at, camera, times_s)
        except DataError as error:
            return [Problem(each.what, each.where, each.why, skip) for each in error.problems]
        return []

    def check(self, at: EpisodeAt, camera: str, times_s: np.ndarray) -> None:
        """Nothing, if the video has a frame of its own at each of the times.

        Raises:
            DataError: it has none for some.
        """
        self._frames(at, camera, times_s)

    def _check_size(self, at: EpisodeAt, camera: Camera) -> None:
        key = at.videos[camera.name].key
        encoding, width, height = self.look(key)
        if (encoding, width, height) != (camera.encoding, camera.width, camera.height):
            raise self._broken(
                key,
                f"the videos of {camera.name} differ",
                f"this one is {encoding}, {width} x {height}; the first is {camera.encoding}, {camera.width} x {camera.height}",
            )

    def _check_bitstream(self, at: EpisodeAt, camera: Camera, times_s: np.ndarray) -> None:
        """Every sample's structure, and one decoded picture: decoding all takes an hour where this takes a minute."""
        key = at.videos[camera.name].key
        first, end = self._frames(at, camera.name, times_s)
        file = self._file(key)
        if key not in self._broken_samples:
            self._broken_samples[key] = mp4.broken_samples(file.content, file.track)
        begin = int(file.track.cuts[np.searchsorted(file.track.cuts, first, "right") - 1])
        wrong = np.flatnonzero(self._broken_samples[key][begin : file.track.last_sample(begin, end)])
        what = f"the video of {camera.name} is damaged"
        if len(wrong):
            why = f"the bytes of {len(wrong)} frames are not what their lengths say, the first is frame {begin + wrong[0]}"
            raise self._broken(key, what, why)
        import av

        from tendon.data.video import first_picture

        try:
            shown = first_picture(mp4.cut(file.content, file.track, begin, file.track.last_sample(begin, begin + 1)))
        except (av.FFmpegError, ValueError, OSError) as error:
            raise self._broken(key, what, f"its picture {begin} cannot be decoded: {error}".splitlines()[0]) from error
        if shown.shape[:2] != (camera.height, camera.width):
            why = f"picture {begin} is {shown.shape[:2]}, its table says {(camera.height, camera.width)}"
            raise self._broken(key, what, why)

    def cut(self, at: EpisodeAt, camera: str, times_s: np.ndarray, chunk: int) -> tuple[VideoChunk, ...]:
        """The frames at ``times_s`` of an episode, in files of about ``chunk`` frames.

        Raises:
            DataError: the video cannot be read, or has no frame at one of the times.
        """
        first, end = self._frames(at, camera, times_s)
        file = self._file(at.videos[camera].key)
        track = file.track
        if file.as_is and first == 0 and end == len(track) <= chunk and track.cuts[:1].tolist() == [0]:
            whole = bytes(file.content)
            _release_pages(file.content)
            return (VideoChunk(whole, 0, end),)
        chunks = []
        for begin, stop in _ranges(track.cuts, first, end, chunk):
            content = mp4.cut(file.content, track, begin, track.last_sample(begin, stop))
            shown = max(begin, first)
            chunks.append(VideoChunk(content, shown - first, stop - shown, shown - begin))
        _release_pages(file.content)
        return tuple(chunks)

    def _frames(self, at: EpisodeAt, camera: str, times_s: np.ndarray) -> tuple[int, int]:
        """First and end of an episode's frames in order of display."""
        video = at.videos[camera]
        track = self._file(video.key).track
        wanted = video.start_s + times_s
        shown = track.shown
        last = len(shown) - 1
        right = np.clip(np.searchsorted(shown, wanted), 0, last)
        left = np.maximum(right - 1, 0)
        nearest = np.where(np.abs(shown[left] - wanted) <= np.abs(shown[right] - wanted), left, right)
        off = np.abs(shown[nearest] - wanted)
        allowed = np.maximum(TOLERANCE_S, np.spacing(times_s.astype(np.float32)))  # times are stored as float32
        wrong = np.flatnonzero((off >= allowed) | (np.diff(nearest, prepend=nearest[:1] - 1) != 1))
        if len(wrong):
            step = int(wrong[0])
            raise self._broken(
                video.key,
                f"the video of {camera} does not show every step of {at.episode_id}",
                f"step {step} is at {wanted[step]:.6f} s; the nearest frame is at {shown[nearest[step]]:.6f} s, the last of"
                f" {len(shown)} at {shown[-1]:.6f} s; {len(wrong)} of {len(wanted)} steps have no frame of their own",
            )
        if not len(track.cuts) or track.cuts[0] > nearest[0]:
            raise self._broken(
                video.key, f"the video of {camera} cannot be cut", "no key frame comes before the episode"
            )
        return int(nearest[0]), int(nearest[-1]) + 1

    def _file(self, key: str) -> _Open:
        if key not in self._open:
            opened = self._read(key)
            self._frames_open += len(opened.track)
            while self._open and (len(self._open) >= MAX_OPEN or self._frames_open > MAX_OPEN_FRAMES):
                self._frames_open -= len(self._open.popitem(last=False)[1].track)
            self._open[key] = opened
        self._open.move_to_end(key)
        return self._open[key]

    def _read(self, key: str) -> _Open:
        content = self.folder.view(key)
        try:
            try:
                opened = _Open(content, mp4.read_track(content), as_is=True)
            except mp4.Mp4Error:
                plain = memoryview(mp4.plain_mp4(content))  # fragments, edits, another container
                opened = _Open(plain, mp4.read_track(plain), as_is=False)
        except mp4.Mp4Error as error:
            raise self._broken(key, "a video cannot be read", str(error)) from error
        if not len(opened.track):
            raise self._broken(key, "a video cannot be read", "it has no frame")
        return opened

    def _broken(self, key: str, what: str, why: str) -> DataError:
        return DataError(
            what,
            where=f"{self.folder.uri}/{key}",
            why=why,
            fix="leave the episode out with data.skip_episodes, or copy the file again",
        )


def _release_pages(content: memoryview) -> None:
    """Let go of what was read of a map: many open files would otherwise fill the memory with what is on the disk anyway."""
    if isinstance(content.obj, mmap.mmap):
        content.obj.madvise(mmap.MADV_DONTNEED)


def _ranges(cuts: np.ndarray, first: int, end: int, chunk: int) -> list[tuple[int, int]]:
    """Frames [begin, stop) of every chunk: begin is a cut, stop the next chunk's begin or ``end``."""
    begin = int(cuts[np.searchsorted(cuts, first, "right") - 1])
    behind = int(np.searchsorted(cuts, end, "left"))
    ranges = []
    while begin < end:
        following = int(np.searchsorted(cuts, max(begin, first), "right"))
        stop = end
        if end - begin > chunk and following < behind:
            within = min(int(np.searchsorted(cuts, begin + chunk, "right")), behind)
            stop = int(cuts[max(within - 1, following)])
        ranges.append((begin, stop))
        begin = stop
    return ranges
