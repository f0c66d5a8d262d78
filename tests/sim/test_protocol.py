import contextlib
import os
import tempfile
import threading

import numpy as np
import pytest

from tendon.sim.protocol import Message, ProtocolError, ProtocolTimeout, SharedPixels, receive, send


@pytest.fixture
def pipe():
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    for fd in (read_fd, write_fd):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_arrays_of_every_kind_come_back_bit_for_bit(pipe):
    arrays = {
        "float": np.array([[1.5, -0.0], [np.nan, np.inf]]),
        "strided": np.arange(12).reshape(3, 4)[:, ::2],
        "scalar": np.float32(3.0) * np.ones(()),
        "empty": np.zeros((0, 7)),
        "flags": np.array([True, False]),
    }
    send(pipe[1], Message({"op": "x", "text": "ü"}, arrays))
    got = receive(pipe[0], timeout_s=1)
    assert got.fields == {"op": "x", "text": "ü"}
    for name, array in arrays.items():
        assert got.arrays[name].dtype == array.dtype
        assert got.arrays[name].shape == array.shape
        assert got.arrays[name].tobytes() == np.ascontiguousarray(array).tobytes()
        got.arrays[name][...] = 0  # writable


def test_images_travel_beside_the_pipe_and_the_file_grows(pipe):
    with tempfile.TemporaryFile() as file:
        writer, reader = SharedPixels(file.fileno()), SharedPixels(file.fileno())
        for side in (4, 64, 16):
            images = {
                name: np.random.default_rng(side).integers(0, 256, (side, side + 1, 3), np.uint8) for name in ("a", "b")
            }
            send(pipe[1], Message({}, {}, images), writer)
            got = receive(pipe[0], reader, 1).images
            assert all((got[name] == image).all() for name, image in images.items())


def test_a_large_frame_passes_a_small_pipe(pipe):
    big = np.random.default_rng(0).standard_normal(300_000)
    sender = threading.Thread(target=send, args=(pipe[1], Message({}, {"big": big})))
    sender.start()
    assert (receive(pipe[0], timeout_s=10).arrays["big"] == big).all()
    sender.join()


def test_silence_a_closed_pipe_and_junk_are_told_apart(pipe):
    with pytest.raises(ProtocolTimeout):
        receive(pipe[0], timeout_s=0.05)
    os.write(pipe[1], b"\x10")  # a frame that never goes on
    with pytest.raises(ProtocolTimeout):
        receive(pipe[0], timeout_s=0.05)
    os.write(pipe[1], b"hello, I am a simulator that prints")
    with pytest.raises(ProtocolError, match="not a frame"):
        receive(pipe[0], timeout_s=1)
    os.close(pipe[1])
    os.set_blocking(pipe[0], False)
    os.read(pipe[0], 1000)
    with pytest.raises(ProtocolError, match="closed"):
        receive(pipe[0], timeout_s=1)
