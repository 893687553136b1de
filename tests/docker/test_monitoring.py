"""docker/prometheus and docker/grafana: the rules by promtool, and by a Prometheus that scrapes real servers.

tensorflow/serving itself cannot be run here: a page in its format, with the names that it shows, stands in its place.
"""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml

from tests.docker.free_ports import free_port
from tests.models import save_half_plus
from tests.servers import RunningServer, start_server, stop_server
from tfbundle_client import ApiError, Client

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "docker" / "prometheus"
DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "tensorflow-serving.json"

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None, reason="no prometheus is installed here"
)

#: As TensorFlow Serving writes it: no help, empty braces where there are no labels, `{}` after a name, microseconds.
STOCK_PAGE = (Path(__file__).parent / "tensorflow_serving_metrics.txt").read_text()

#: Metrics and labels that the embedded server alone has.
OURS_ALONE = {":tfbundle:serving:versions"}


def _promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _recording() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "recording.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard_expressions() -> list[str]:
    """Every expression of the dashboard, with Grafana's variables filled in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    filled = [("$__rate_interval", "1m"), ("$instance", ".*"), ("$model", ".*")]
    found = []
    for panel in panels:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in filled:
                expression = expression.replace(name, value)
            found.append(expression)
    return found


def _metric_names(expression: str) -> set[str]:
    """The metrics of the servers in an expression, histograms' parts under their own names."""
    return set(re.findall(r":(?:tensorflow|tfbundle):[a-z_:]+", expression))


@needs_prometheus
def test_the_rules_pass_their_own_tests() -> None:
    """Promtool finds configuration and rules in order, and every alert sounds where it should and only there."""
    _promtool("check", "config", PROMETHEUS / "prometheus.yml")
    _promtool("test", "rules", PROMETHEUS / "alerts_test.yml")


def test_every_alert_has_a_test() -> None:
    """None is only written down; each says what is wrong in its summary and how bad it is."""
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    sounding = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    names = {alert["alert"] for alert in _alerts()}
    assert sounding == names
    assert silent == names
    for alert in _alerts():
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["annotations"]["summary"]


@needs_prometheus
def test_every_expression_of_the_dashboard_parses(tmp_path: Path) -> None:
    """Prometheus reads each of them, and none misses a data source."""
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(_dashboard_expressions())]
    assert len(rules) > 15
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    _promtool("check", "rules", tmp_path / "rules.yml")


def test_the_dashboard_is_whole() -> None:
    """Panels have their own numbers and places, lie in the 24 columns and know the provisioned data source."""
    dashboard = json.loads(DASHBOARD.read_text())
    folder = ROOT / "docker" / "grafana" / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Now", "Requests", "Errors", "Latency", "Versions", "Batching"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == source["uid"]
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["instance", "model"]


def test_every_metric_is_one_that_the_servers_show(server_page: str) -> None:
    """What rules and dashboard ask for is on the pages of both servers, but for what the embedded one alone has."""
    wanted: set[str] = set()
    for expression in [*_dashboard_expressions(), *(rule["expr"] for rule in (*_alerts(), *_recording()))]:
        wanted |= _metric_names(expression)
    assert wanted & OURS_ALONE == OURS_ALONE
    for name in wanted:
        family = re.sub("_(bucket|sum|count)$", "", name)
        pages = [server_page] if name in OURS_ALONE else [server_page, STOCK_PAGE]
        for page in pages:
            assert f"# TYPE {family} " in page or f"# TYPE {name} " in page, name


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model with one good version."""
    folder = tmp_path_factory.mktemp("monitored")
    save_half_plus(folder / "half" / "1")
    return folder


@pytest.fixture(scope="module")
def monitored(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that shows its metrics; a test may kill it."""
    running = _start(models, tmp_path_factory.mktemp("log"))
    yield running
    if running.process.poll() is None:
        stop_server(running)


def _start(models: Path, folder: Path) -> RunningServer:
    return start_server(
        str(models),
        f"--monitoring_config_file={ROOT / 'serving' / 'monitoring.config'}",
        "--max_num_load_retries=0",
        "--enable_batching=true",
        f"--batching_parameters_file={ROOT / 'serving' / 'batching.config'}",
        folder=folder,
    )


@pytest.fixture(scope="module")
def server_page(monitored: RunningServer) -> str:
    """The embedded server's metrics."""
    return requests.get(f"{monitored.rest_url}/monitoring/prometheus/metrics", timeout=20).text


class _StockPage(http.server.BaseHTTPRequestHandler):
    """Shows TensorFlow Serving's page, its counters ever growing, under its path and content type."""

    begun = time.monotonic()

    def do_GET(self) -> None:
        is_metrics = self.path == "/monitoring/prometheus/metrics"
        seconds = int((time.monotonic() - self.begun) * 10)
        body = re.sub(r"(?m)^(?!#)(.* )(\d+)$", lambda found: f"{found[1]}{int(found[2]) * (seconds + 1)}", STOCK_PAGE)
        self.send_response(200 if is_metrics else 404)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(body.encode() if is_metrics else b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""


@contextmanager
def _stock_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _StockPage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Prometheus:
    """A running Prometheus with our rules."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now."""
        reply = requests.get(f"{self._url}/api/v1/query", params={"query": expression}, timeout=20).json()
        assert reply["status"] == "success", reply
        found: list[dict[str, Any]] = reply["data"]["result"]
        return found

    def alert(self, name: str) -> list[dict[str, str]]:
        """Labels of an alert's cases that are pending or firing."""
        return [case["metric"] for case in self.ask(f'ALERTS{{alertname="{name}"}}')]


def _wait(condition: Callable[[], Any], what: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        meanwhile()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def prometheus(monitored: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with the repository's rules, scraping both kinds of server twice a second."""
    folder = tmp_path_factory.mktemp("prometheus")
    with _stock_server() as stock_port:
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "500ms"}
        (job,) = config["scrape_configs"]
        del job["dns_sd_configs"]
        job["static_configs"] = [
            {"targets": [f"127.0.0.1:{monitored.rest_port}"], "labels": {"service": "embedded"}},
            {"targets": [f"127.0.0.1:{stock_port}"], "labels": {"service": "serving"}},
        ]
        del job["relabel_configs"]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        for name in config["rule_files"]:
            shutil.copy(PROMETHEUS / name, folder)
        port = free_port()
        log = folder / "prometheus.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait(lambda: _is_ready(port, process, log), "Prometheus is not ready")
            yield Prometheus(port)
        finally:
            process.terminate()
            process.wait(30)


def _is_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


@needs_prometheus
class TestARunningPrometheus:
    """In order: the last one kills the server."""

    def test_both_kinds_of_server_are_scraped(self, prometheus: Prometheus, monitored: RunningServer) -> None:
        """Requests, latencies and versions of both are there, and the recorded rates and quantiles follow."""
        _wait(lambda: len(prometheus.ask("up == 1")) == 2, "not both servers are up")
        with Client(monitored.grpc_url) as client, Client(monitored.rest_url) as rest:

            def call() -> None:
                client.predict("half", np.array([1.0], np.float32))
                rest.predict("half", np.array([1.0], np.float32))

            def knows_both(record: str) -> bool:
                found = {each["metric"]["model_name"] for each in prometheus.ask(f"{record} > 0")}
                return {"half", "stock"} <= found

            for record in ("job_model:serving_successes:rate5m", "job_model_entrypoint:serving_latency_seconds:p99_5m"):
                _wait(partial(knows_both, record), record, meanwhile=call)
        entrypoints = {
            each["metric"]["entrypoint"]
            for each in prometheus.ask('job_model_entrypoint:serving_latency_seconds:p99_5m{model_name="half"} < 10')
        }
        assert entrypoints == {"GRPC", "REST"}
        assert not prometheus.alert("NoServer")
        (version,) = prometheus.ask(':tfbundle:serving:versions{state="AVAILABLE"}')
        assert (version["metric"]["model_name"], version["metric"]["version"]) == ("half", "1")

    def test_every_panel_can_be_drawn(self, prometheus: Prometheus) -> None:
        """Every expression of the dashboard gives something once both servers have been called."""
        for expression in _dashboard_expressions():
            # Nothing has failed yet.
            is_of_errors = re.search('status="UNAVAILABLE"|status!="OK"|refusals|faults', expression)
            if is_of_errors and "vector(0)" not in expression:
                prometheus.ask(expression)
            else:
                _wait(partial(prometheus.ask, expression), expression)

    def test_refused_requests_raise_the_alarm(self, prometheus: Prometheus, monitored: RunningServer) -> None:
        """Callers that send what the model does not take: RefusalRatioHigh, and nobody calls it the server's fault."""
        body = {"instances": ["no number"]}

        def call() -> None:
            url = f"{monitored.rest_url}/v1/models/half:predict"
            assert requests.post(url, json=body, timeout=20).status_code == 400

        _wait(lambda: prometheus.alert("RefusalRatioHigh"), "no alert", meanwhile=call)
        assert {case["model_name"] for case in prometheus.alert("RefusalRatioHigh")} == {"half"}
        assert "half" not in {case["model_name"] for case in prometheus.alert("FaultRatioHigh")}

    def test_a_version_that_cannot_be_loaded_raises_the_alarm(self, prometheus: Prometheus, models: Path) -> None:
        """A corrupt version that is dropped in: VersionLoadFails names its folder; the old version goes on."""
        staging = models / "half" / "staging"
        shutil.copytree(models / "half" / "1", staging)
        (staging / "saved_model.pb").write_bytes(b"no graph")
        staging.rename(models / "half" / "2")
        _wait(lambda: prometheus.alert("VersionLoadFails"), "no alert")
        (case,) = [case for case in prometheus.alert("VersionLoadFails") if case["service"] == "embedded"]
        assert case["model_path"] == str(models / "half" / "2")
        _wait(lambda: prometheus.ask(':tfbundle:serving:versions{version="2",state="END"}'), "no state")
        assert not prometheus.alert("NoVersionAvailable")

    def test_a_server_that_dies_raises_the_alarm(self, prometheus: Prometheus, monitored: RunningServer) -> None:
        """Killed, the server is missed; the other one answers, so there is no NoServer."""
        assert not prometheus.alert("ServerDown")
        monitored.process.kill()
        _wait(lambda: prometheus.alert("ServerDown"), "no alert")
        (case,) = prometheus.alert("ServerDown")
        assert case["instance"].endswith(str(monitored.rest_port))
        assert not prometheus.alert("NoServer")
        with Client(monitored.grpc_url, retry=None) as client, pytest.raises(ApiError):
            client.status("half")
