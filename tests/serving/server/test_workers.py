"""Several workers on shared ports: what holds for one server holds for them together.

Which worker answers is seen from outside: each connection to the shared port is an open file of exactly one of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import requests
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from tests.servers import RunningServer, running_server
from tests.serving.server.conftest import PATIENCE_S, publish, wait_for
from tests.serving.server.in_process import predict
from tfbundle_serving.apis.prediction_log import read_prediction_logs
from tfbundle_serving.server.metrics_sum import sum_metrics

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux spreads connections")

METRICS = "/monitoring/prometheus/metrics"
STATUS = "/v1/models/half_plus_two"
#: What the counter counts up to in half a second.
COUNTED = 300_000


@pytest.fixture(scope="module")
def shared(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two workers that serve one configured model and may be reloaded."""
    folder = tmp_path_factory.mktemp("workers")
    config = folder / "models.config"
    config.write_text(f"model_config_list {{ {_model('half_plus_two', tiny_models / 'half_plus_two')} }}")
    monitoring = folder / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    flags = [f"--model_config_file={config}", f"--monitoring_config_file={monitoring}", "--max_num_load_retries=0"]
    flags += ["--file_system_poll_wait_seconds=0", f"--grpc_socket_path={folder / 'grpc'}"]
    flags += ["--record", str(folder / "recorded"), "--record-rate", "1"]
    with running_server("--workers=2", "--enable_access_log", *flags, folder=folder) as server:
        yield server


def _model(name: str, base_path: Path, more: str = "") -> str:
    return f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}'


def workers(server: RunningServer) -> list[int]:
    """List the processes of the workers."""
    pid = server.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _open_files(pid: int) -> Iterator[str]:
    """Give what a process has open."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            yield str(fd.readlink())


def _sockets(pid: int) -> int:
    """Count the sockets that a process has open."""
    return sum(name.startswith("socket:") for name in _open_files(pid))


@contextlib.contextmanager
def sessions(server: RunningServer) -> Iterator[list[requests.Session]]:
    """Keep connections open until every worker has one of them."""
    before = {pid: _sockets(pid) for pid in workers(server)}
    with contextlib.ExitStack() as opened:
        made: list[requests.Session] = []
        while not all(_sockets(pid) > count for pid, count in before.items()):
            assert len(made) < 200, "one worker gets no connection"
            session = opened.enter_context(requests.Session())
            assert session.get(server.rest_url + STATUS, timeout=PATIENCE_S).status_code in (200, 404)
            made.append(session)
        yield made


def kill_one(server: RunningServer) -> tuple[int, int]:
    """Kill a worker; give the process that takes its place, and the one that was killed."""
    before = workers(server)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: before[0] not in workers(server) and len(workers(server)) == 2, "another worker")
    return next(pid for pid in workers(server) if pid not in before), before[0]


def listens(server: RunningServer, pid: int) -> bool:
    """Tell whether a process listens on the REST port: its sockets' inodes are those of the system's table."""
    listening = {
        fields[9]
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[3] == "0A" and int(fields[1].partition(":")[2], 16) == server.rest_port
    }
    return any(name[8:-1] in listening for name in _open_files(pid) if name.startswith("socket:"))


def reload(server: RunningServer, config: str, *metrics: str) -> dict[str, int]:
    """Ask one worker for other models; give the metrics that come back."""
    request = model_management_pb2.ReloadConfigRequest(metric_names=metrics)
    text_format.Parse(config, request.config)
    with grpc.insecure_channel(server.grpc_target) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        reply = stub.HandleReloadConfigRequest(request, timeout=PATIENCE_S)
    return {each.name: each.int64_value_increase for each in reply.metric}


def _count(text: str, sample: str) -> int:
    return int(next(line.split()[-1] for line in text.splitlines() if line.startswith(sample)))


def test_both_answer(shared: RunningServer) -> None:
    """Connections reach both workers, and each answers right, over both protocols."""
    assert len(workers(shared)) == 2
    with sessions(shared) as made:
        for session in made:
            reply = session.post(f"{shared.rest_url}{STATUS}:predict", data='{"instances": [2.0]}', timeout=PATIENCE_S)
            assert reply.json() == {"predictions": [3.0]}
    for _ in range(8):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(shared.grpc_target, options=options) as channel:
            assert predict(channel) == [3.0]


def test_both_record_in_one_file(shared: RunningServer) -> None:
    """What each of them answered is in the file, in whole records, within about a second."""
    file = shared.log.parent / "recorded"

    def values() -> set[float]:
        return {float(each.inputs["x"][0]) for each in read_prediction_logs(file, lambda *_: None)}

    with sessions(shared) as made:
        for value, session in enumerate(made):
            body = f'{{"instances": [{1000 + value}]}}'
            session.post(f"{shared.rest_url}{STATUS}:predict", data=body, timeout=PATIENCE_S)
        wanted = {1000.0 + value for value in range(len(made))}
    wait_for(lambda: wanted <= values(), "every request in the file")
    metrics = requests.get(shared.rest_url + METRICS, timeout=PATIENCE_S).text
    assert _count(metrics, ':tensorflow:serving:request_log_count{model_name="half_plus_two",status="OK"}') >= len(made)


def test_the_unix_socket_is_shared(shared: RunningServer) -> None:
    """Who connects to it is answered, whichever worker accepts."""
    for _ in range(8):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"unix:{shared.log.parent / 'grpc'}", options=options) as channel:
            assert predict(channel) == [3.0]


def test_metrics_are_summed(shared: RunningServer) -> None:
    """Whichever worker is asked, the page shows the requests that all of them answered."""
    sample = ':tensorflow:serving:request_count{model_name="half_plus_two",status="OK"}'
    url = f"{shared.rest_url}{STATUS}:predict"
    with sessions(shared) as made:
        made[0].post(url, data='{"instances": [2.0]}', timeout=PATIENCE_S)
        before = _count(made[0].get(shared.rest_url + METRICS, timeout=PATIENCE_S).text, sample)
        for session in made:
            session.post(url, data='{"instances": [2.0]}', timeout=PATIENCE_S)
        for session in made:
            page = session.get(shared.rest_url + METRICS, timeout=PATIENCE_S)
            assert _count(page.text, sample) == before + len(made)
            assert page.headers["Content-Type"].startswith("text/plain")
        assert made[0].get(f"{shared.rest_url}{METRICS}?x=1", timeout=PATIENCE_S).status_code == 400


def test_a_reload_reaches_both(shared: RunningServer, tiny_models: Path) -> None:
    """What one worker is told, all serve when it answers, labels included; what it refuses changes none."""
    base = _model("half_plus_two", tiny_models / "half_plus_two", 'version_labels { key: "stable" value: 123 }')
    counter = ":tensorflow:cc:saved_model:load_attempt_count"
    with sessions(shared) as made:

        def asked(path: str) -> set[int]:
            return {each.get(shared.rest_url + path, timeout=PATIENCE_S).status_code for each in made}

        assert asked("/v1/models/other") == {404}
        two = f"model_config_list {{ {base} {_model('other', tiny_models / 'half_plus_two')} }}"
        assert reload(shared, two, counter) == {counter: 2}  # each worker loads it
        assert asked("/v1/models/other/metadata") == {200}
        assert asked("/v1/models/half_plus_two/labels/stable/metadata") == {200}
        bad_label = _model("other", tiny_models / "half_plus_two", 'version_labels { key: "new" value: 9 }')
        with pytest.raises(grpc.RpcError) as caught:
            reload(shared, f"model_config_list {{ {bad_label} }}")
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert asked("/v1/models/half_plus_two/labels/stable/metadata") == {200}
        assert asked("/v1/models/other/labels/new/metadata") == {400}
        reload(shared, f"model_config_list {{ {base} }}")
        assert asked("/v1/models/other/metadata") == {404}


@dataclass(frozen=True)
class Replaced:
    """A worker that was killed and replaced.

    Attributes:
        base: The base path of m.
        killed: The process that was killed.
        statuses: What requests were answered with meanwhile.
    """

    base: Path
    killed: int
    statuses: list[int]


@pytest.fixture(scope="module")
def replaced(shared: RunningServer, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Replaced:
    """One of the two workers is new: it never had version 1 of the model m, which the other still has."""
    half = tiny_models / "half_plus_two"
    base = tmp_path_factory.mktemp("models") / "m"
    publish(half / "123", base, 1)
    stable = _model("half_plus_two", half, 'version_labels { key: "stable" value: 123 }')
    reload(shared, f"model_config_list {{ {stable} {_model('m', base)} }}")
    publish(half / "123", base, 2)
    new, killed = kill_one(shared)
    statuses: list[int] = []

    def ask() -> bool:
        reply = requests.get(f"{shared.rest_url}{STATUS}/labels/stable/metadata", timeout=PATIENCE_S)
        statuses.append(reply.status_code)
        return listens(shared, new)

    wait_for(ask, "the new worker to listen")
    return Replaced(base, killed, statuses)


def test_a_worker_that_is_killed_is_replaced(shared: RunningServer, replaced: Replaced) -> None:
    """Requests go on meanwhile, and the new worker serves what the others do now, not what the start said."""
    assert len(replaced.statuses) > 1
    assert set(replaced.statuses) == {200}
    with sessions(shared) as made:
        for session in made:
            reply = session.get(f"{shared.rest_url}{STATUS}/labels/stable/metadata", timeout=PATIENCE_S)
            assert reply.status_code == 200
    said = [line for line in shared.log.read_text().splitlines() if "SIGKILL" in line]
    assert len(said) == 1
    assert f"(process {replaced.killed}) was ended by SIGKILL; another is started now" in said[0]


def test_a_reload_that_one_refuses_changes_none(shared: RunningServer, replaced: Replaced) -> None:
    """Only one worker has version 1 of m, so a label for it cannot be had."""
    url = f"{shared.rest_url}/v1/models/m/labels/old/metadata"
    with sessions(shared) as made:
        label = _model("m", replaced.base, 'version_labels { key: "old" value: 1 }')
        with pytest.raises(grpc.RpcError) as caught:
            reload(shared, f"model_config_list {{ {label} }}")
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert {each.get(url, timeout=PATIENCE_S).status_code for each in made} == {400}


def test_the_access_log_has_whole_lines(shared: RunningServer) -> None:
    """Lines of both workers stand beside each other, never inside each other."""
    with sessions(shared) as made, ThreadPoolExecutor(8) as pool:
        url = f"{shared.rest_url}/v1/models/{'x' * 300}"
        list(pool.map(lambda number: made[number % len(made)].get(url, timeout=PATIENCE_S), range(200)))
    wait_for(lambda: shared.log.read_text().count("x" * 300) >= 200, "the lines")
    lines = [line for line in shared.log.read_text().splitlines() if "x" * 300 in line]
    assert all(line.startswith('{"time"') and line.endswith("}") and line.count('"time"') == 1 for line in lines)


def test_a_start_that_fails_says_so_once(tiny_models: Path, tmp_path: Path) -> None:
    """What no worker can do ends the start with one message and tensorflow_model_server's exit code."""
    ssl = tmp_path / "ssl.config"
    ssl.write_text('server_key: "-----BEGIN no key" server_cert: "-----BEGIN no certificate"')
    code = "import sys; from tfbundle_serving.cli import tensorflow_model_server as run; sys.exit(run())"
    flags = [f"--model_base_path={tiny_models / 'half_plus_two'}", "--workers=2", "--port=auto"]
    command = [sys.executable, "-c", code, *flags, f"--ssl_config_file={ssl}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 255, done.stderr
    assert done.stdout.count("Failed to start server. Error: INVALID_ARGUMENT: server_key and server_cert") == 1
    assert "Traceback" not in done.stderr


def test_a_port_that_is_shared_already_is_in_use(shared: RunningServer, tiny_models: Path) -> None:
    """Another server with workers does not take half of the requests."""
    flags = [str(tiny_models), "--workers=2", f"--port={shared.grpc_port}"]
    command = [sys.executable, "-m", "tfbundle", "serve", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"cannot listen on 127.0.0.1:{shared.grpc_port}" in done.stderr


def test_workers_must_be_one_or_more(tiny_models: Path) -> None:
    """Other numbers are refused."""
    command = [sys.executable, "-m", "tfbundle", "serve", str(tiny_models), "--workers=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "--workers must be 1 or more, got 0" in done.stderr


def test_sums() -> None:
    """Samples with the same labels are added, others stand for themselves, and label values may hold anything."""
    first = b'# TYPE a counter\na{m="x y"} 2\n# TYPE b histogram\nb_sum{} 0.5\nb_bucket{le="+Inf"} 1\n'
    second = b'# TYPE a counter\na{m="x y"} 3\na{m="z"} 1\n# TYPE b histogram\n'
    assert sum_metrics([first, second, b""]) == (
        b'# TYPE a counter\na{m="x y"} 5\na{m="z"} 1\n# TYPE b histogram\nb_sum{} 0.5\nb_bucket{le="+Inf"} 1\n'
    )


def test_sigterm_drains_all(shared: RunningServer, tiny_models: Path) -> None:
    """Requests under way in either worker are answered, then all processes end, and the exit code is 0.

    It stands last, since it ends the server that the others share.
    """
    reload(shared, f"model_config_list {{ {_model('counter', tiny_models / 'counter')} }}")
    url, body = f"{shared.rest_url}/v1/models/counter:predict", f'{{"inputs": [{COUNTED}]}}'
    with sessions(shared) as made, ThreadPoolExecutor(len(made)) as pool:
        busy_s = {pid: _cpu_s(pid) for pid in workers(shared)}
        calls = [pool.submit(session.post, url, data=body, timeout=PATIENCE_S) for session in made]
        wait_for(lambda: all(_cpu_s(pid) > before + 0.1 for pid, before in busy_s.items()), "both to run")
        shared.process.send_signal(signal.SIGTERM)
        assert not all(call.done() for call in calls)
        assert [call.result().json() for call in calls] == [{"outputs": COUNTED}] * len(made)
    assert shared.process.wait(PATIENCE_S) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in busy_s)
    assert not (shared.log.parent / "grpc").exists()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
