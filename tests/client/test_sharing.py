"""One client in many threads, and on both sides of a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tfbundle_client import Client

_THREADS, _CALLS = 8, 40

#: Uses a client, forks twice, uses it in the children at the same time and in the parent while they run.
_FORKING = """
import os, sys
from tfbundle_client import Client

def ask(client, value):
    assert client.predict("half_plus_two", [float(value)]).output.tolist() == [value / 2 + 2]

client = Client(sys.argv[1], timeout=20)
ask(client, 1)
children = []
for number in range(2):
    pid = os.fork()
    if pid == 0:
        try:
            for value in range(20):
                ask(client, value + number)
            client.close()
        except BaseException as error:
            print(type(error), error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(pid)
for value in range(20):
    ask(client, value)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
ask(client, 3)  # a child that closed its client has not closed ours
client.close()
assert codes == [0, 0], codes
print("done")
"""


def test_threads_share_a_client(url: str) -> None:
    """Answers never change hands between threads."""
    with Client(url) as client, ThreadPoolExecutor(_THREADS) as pool:

        def ask(value: int) -> bool:
            sent = np.full(value % 7 + 1, value, np.float32)
            return np.array_equal(client.predict("half_plus_two", sent).output, sent / 2 + 2)

        assert all(pool.map(ask, range(_THREADS * _CALLS)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_client_survives_a_fork(url: str) -> None:
    """A client that was used goes on working in the parent and in forked children, at the same time."""
    done = subprocess.run([sys.executable, "-c", _FORKING, url], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr
