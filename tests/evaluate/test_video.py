import io

import numpy as np
import pytest

from tendon.evaluate.video import encode_clip


def frames(count, height, width):
    for index in range(count):
        frame = np.full((height, width, 3), 40, np.uint8)
        frame[:, : index * width // count] = (200, 30, 30)
        yield frame


def test_a_browser_can_play_it():
    av = pytest.importorskip("av")
    data = encode_clip(frames(30, 65, 97), fps=12.5)
    assert data.index(b"moov") < data.index(b"mdat")  # faststart
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == (96, 64)
        assert float(stream.average_rate) == 12.5
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 30
    assert abs(int(decoded[-1][32, 10, 0]) - 200) < 20
    assert abs(int(decoded[0][32, 90, 0]) - 40) < 20


def test_the_same_frames_give_the_same_bytes():
    pytest.importorskip("av")
    assert encode_clip(frames(5, 32, 32), fps=10) == encode_clip(frames(5, 32, 32), fps=10)


def test_no_frames_is_an_error():
    pytest.importorskip("av")
    with pytest.raises(ValueError, match="frame"):
        encode_clip([], fps=10)
