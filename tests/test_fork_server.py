"""Forks of a server stand in for processes of their own, and nothing outlives whoever wanted them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tendon import fork_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks of a server are made on Linux only")
TELL = "import os, sys; print(sys.argv[1:], os.environ['WORD'], os.getcwd(), os.getsid(0) == os.getpid()); sys.exit(7)"
SLEEP = "import time, os; print(os.getpid(), flush=True); time.sleep(60)"


def forked(folder, code, arguments=(), *, descriptors=(), out, prepare="", alone=False):
    environment = {**os.environ, "WORD": "hello", fork_server.VARIABLE: folder}
    request = fork_server.Request(code, tuple(arguments), environment, str(out.parent), prepare, alone)
    with out.open("w") as file, open(os.devnull) as nothing:
        streams = (nothing.fileno(), file.fileno(), file.fileno())
        return fork_server.start(
            request, streams, name="test", command=fork_server.COMMAND, descriptors=descriptors, folder=folder
        )


def is_gone(pid, within_s=10.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def first_line(file, within_s=20.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and not (file.exists() and file.read_text().endswith("\n")):
        time.sleep(0.02)
    return file.read_text()


def test_a_fork_is_what_a_process_would_be_and_has_what_was_prepared(tmp_path):
    before_s = fork_server.cpu_seconds()
    with fork_server.serving() as folder:
        child = forked(folder, TELL, ["a", "{}"], out=tmp_path / "out")
        assert child.wait() == 7
        assert child.poll() == 7
        assert (tmp_path / "out").read_text() == f"['a', '{{}}'] hello {tmp_path} True\n"
        prepared = "import json; import no_such_module"
        child = forked(folder, "import sys; print('json' in sys.modules)", out=tmp_path / "out", prepare=prepared)
        assert child.wait(20) == 0  # what a preparation raises is left to the fork
        assert (tmp_path / "out").read_text() == "True\n"
        readable, writable = os.pipe()
        child = forked(
            folder,
            "import os, sys; os.write(int(sys.argv[1]), b'x')",
            [0],
            descriptors=[writable],
            out=tmp_path / "out",
        )
        os.close(writable)
        assert os.read(readable, 10) == b"x"
        assert os.read(readable, 10) == b"", "the server has let go of it, so its end is seen"
        os.close(readable)
        assert child.wait() == 0
    assert fork_server.cpu_seconds() > before_s


def test_signals_and_limits_are_those_of_a_process(tmp_path):
    with fork_server.serving() as folder:
        child = forked(folder, SLEEP, out=tmp_path / "out")
        assert first_line(tmp_path / "out") == f"{child.pid}\n"
        assert child.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.05)
        child.terminate()
        assert child.wait(20) == -signal.SIGTERM
        child.kill()  # nothing to do any more


def test_without_a_server_or_beside_threads_there_is_no_fork(tmp_path, monkeypatch):
    monkeypatch.delenv(fork_server.VARIABLE, raising=False)
    assert forked("", TELL, out=tmp_path / "out") is None
    assert forked(str(tmp_path / "no such folder"), TELL, out=tmp_path / "out") is None
    with fork_server.serving() as folder:
        thread = "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
        assert forked(folder, TELL, out=tmp_path / "out", prepare=thread, alone=True) is None


@pytest.mark.parametrize("who", ["asker", "owner", "server"])
def test_nothing_outlives_whoever_wanted_it(tmp_path, who):
    """The asker gets no more answers, the owner ends all servers, a server takes its forks along."""
    call = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_fork_server as t; from pathlib import Path; "
    ask = call + f"t.forked(sys.argv[1], t.SLEEP, out=Path({str(tmp_path / 'out')!r})).wait()"
    own = call + "import time\nwith t.fork_server.serving() as folder: print(folder, flush=True); time.sleep(60)"
    owner = subprocess.Popen([sys.executable, "-c", own], stdout=subprocess.PIPE, text=True)
    folder = owner.stdout.readline().strip()
    asker = subprocess.Popen([sys.executable, "-c", ask, folder])
    pid = int(first_line(tmp_path / "out"))
    server = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill({"asker": asker.pid, "owner": owner.pid, "server": server}[who], signal.SIGKILL)
    assert is_gone(pid)
    assert who == "asker" or is_gone(server)
    for process in (asker, owner):
        process.kill()
        process.wait()
    owner.stdout.close()
    assert is_gone(server)


def test_a_server_whose_owner_died_before_it_listened_ends(tmp_path):
    os.mkfifo(tmp_path / fork_server.ALIVE)
    subprocess.run([*fork_server.COMMAND, str(tmp_path), "late"], check=True)
    others = [pid for pid in os.listdir("/proc") if pid.isdigit() and str(tmp_path).encode() in _words(pid)]
    assert all(is_gone(int(pid)) for pid in others)


def _words(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
