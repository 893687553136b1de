"""docker/compose.yaml for real: built, brought up, called.

tensorflow/serving itself is not pulled: an image of the embedded server carries its name. What is tested of the default
service is therefore its command line, mounts, health check and ports, not TensorFlow Serving. nginx and Prometheus are
Debian's, in images that take the place of the official ones.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.docker.compose_project import ROOT, STAND_IN, Compose, engine_answers
from tests.docker.free_ports import free_port
from tests.models import save_half_plus
from tfbundle_client import Client, PermissionDenied, Tls, Unauthenticated
from tfbundle_serving.apis.tfrecord import read_records

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not engine_answers(), reason="no Docker engine with compose v2 answers here"),
]


@pytest.fixture(scope="module")
def image() -> None:
    """The embedded server's image, under its own name and under that of the stand-in."""
    build = ["docker", "build", "-q", "-t", "tfbundle:latest", "-t", STAND_IN, "-f", "docker/Dockerfile", "."]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=["embedded", "serving"])
def compose(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Each profile in turn, up and healthy, over a model `digits`, which models.config names, at version 1."""
    request.getfixturevalue("image")
    models = tmp_path_factory.mktemp("models")
    models.chmod(0o755)
    save_half_plus(models / "digits" / "1")
    project = Compose(request.param, models)
    try:
        project.run("up", "--detach", "--wait", "--wait-timeout", "120")
        yield project
    finally:
        project.run("down", "--volumes", "--timeout", "20")


def test_the_service_answers_over_both_transports(compose: Compose) -> None:
    """A model that models.config names is served on both published ports once the service is healthy."""
    for url in (f"grpc://127.0.0.1:{compose.grpc_port}", f"http://127.0.0.1:{compose.rest_port}"):
        with Client(url) as client:
            result = client.predict("digits", np.array([1.0, 2.0, 5.0], np.float32))
            np.testing.assert_allclose(result["y"], [2.5, 3.0, 4.5])


def test_a_models_config_that_is_replaced_is_seen(compose: Compose) -> None:
    """A new models.config that takes the old one's place by a rename, as `tfbundle promote` does it, is read inside."""
    new = compose.config / "models.config.new"
    new.write_text((compose.config / "models.config").read_text().replace("# version_labels", "version_labels"))
    new.rename(compose.config / "models.config")
    service = compose.run("ps", "--services").split()[0]
    inside = compose.run("exec", "-T", service, "cat", "/config/models.config")
    assert inside == (compose.config / "models.config").read_text()
    with Client(f"grpc://127.0.0.1:{compose.grpc_port}") as client:
        client.reload_config(inside)
        np.testing.assert_allclose(client.predict("digits", np.array([1.0], np.float32), label="stable")["y"], [2.5])


def test_a_dropped_in_version_takes_over(compose: Compose) -> None:
    """A new version folder in the mounted directory is served without a restart."""
    staging = save_half_plus(compose.models / "digits" / "staging", addend=10.0)
    staging.rename(compose.models / "digits" / "2")
    with Client(f"grpc://127.0.0.1:{compose.grpc_port}") as client:
        client.wait_until_available("digits", version=2, timeout=60)
        np.testing.assert_allclose(client.predict("digits", np.array([1.0], np.float32))["y"], [10.5])


def test_the_container_runs_without_root_and_stops_at_once(compose: Compose) -> None:
    """The process is not root, cannot write to its file system, and ends on SIGTERM."""
    service = compose.run("ps", "--services").split()[0]
    assert compose.run("exec", "-T", service, "id", "-u").strip() == "10001"
    written = compose.run("exec", "-T", service, "sh", "-c", "touch /models/x /x 2>&1 || echo refused")
    assert "refused" in written
    compose.run("stop", "--timeout", "20")
    states = compose.run("ps", "--all", "--format", "json")
    assert '"ExitCode":0' in states.replace(" ", ""), states


@pytest.mark.usefixtures("image")
def test_requests_are_recorded_on_a_volume(tmp_path: Path) -> None:
    """The server that may write nowhere else records to /records, readable by itself alone, and `cp` brings it out."""
    models = tmp_path / "models"
    save_half_plus(models / "digits" / "1")
    for folder in (tmp_path, models):
        folder.chmod(0o755)
    project = Compose("embedded", models, SERVER_FLAGS="--record=/records/requests.tfrecord --record_rate=1")
    try:
        project.run("up", "--detach", "--wait", "--wait-timeout", "120")
        with Client(f"grpc://127.0.0.1:{project.grpc_port}") as client:
            for _ in range(3):
                client.predict("digits", np.array([1.0], np.float32))
        project.run("stop", "--timeout", "20")
        project.run("up", "--detach", "--wait", "--wait-timeout", "120", "--force-recreate")
        project.run("cp", "embedded:/records/requests.tfrecord", str(tmp_path / "requests"))
        assert len(list(read_records(tmp_path / "requests"))) == 3
        assert project.run("exec", "-T", "embedded", "stat", "-c", "%u %a", "/records").split() == ["10001", "700"]
        assert "refused" in project.run("exec", "-T", "embedded", "sh", "-c", "touch /config/x /x 2>&1 || echo refused")
    finally:
        project.run("down", "--volumes", "--timeout", "20")


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("setting", ["MODELS_DIR", "CONFIG_DIR"])
def test_a_folder_that_is_missing_is_an_error(tmp_path: Path, setting: str) -> None:
    """It is not made as an empty one of root's, and nothing is started again and again."""
    models = tmp_path / "models"
    models.mkdir()
    missing = tmp_path / "mistyped"
    project = Compose("embedded", models)
    project.set(**{setting: str(missing)})
    try:
        with pytest.raises(AssertionError, match=f"{missing}"):
            project.run("up", "--detach")
        assert not missing.exists()
        assert not project.run("ps", "--services").split()
    finally:
        project.run("down", "--volumes")


@pytest.mark.usefixtures("image")
def test_the_image_alone_is_healthy(tmp_path: Path) -> None:
    """Run as it is, without flags or configuration, the image serves what is mounted at /models and says it is well."""
    tmp_path.chmod(0o755)
    save_half_plus(tmp_path / "half_plus_two" / "1")
    name = f"tfbundle-test-{uuid.uuid4().hex[:8]}"
    run = ["docker", "run", "--detach", "--rm", "--name", name, "--volume", f"{tmp_path}:/models:ro", "tfbundle:latest"]
    subprocess.run(run, check=True, capture_output=True)
    try:
        deadline = time.monotonic() + 90
        health = "starting"
        while health == "starting" and time.monotonic() < deadline:
            time.sleep(0.5)
            look = ["docker", "inspect", "--format", "{{.State.Health.Status}}", name]
            health = subprocess.run(look, check=True, capture_output=True, text=True).stdout.strip()
        assert health == "healthy"
    finally:
        subprocess.run(["docker", "stop", "--time", "20", name], check=True, capture_output=True)


@pytest.fixture(scope="module")
def stand_ins() -> dict[str, str]:
    """Images of Debian's nginx and Prometheus, as settings of .env."""
    for name in ("nginx", "prometheus"):
        build = ["docker", "build", "-q", "--target", name, "-t", f"tfbundle-test/{name}"]
        build += ["-f", "tests/docker/stand_ins.Dockerfile", "tests/docker"]
        done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return {"NGINX_IMAGE": "tfbundle-test/nginx", "PROMETHEUS_IMAGE": "tfbundle-test/prometheus"}


@pytest.mark.usefixtures("image")
def test_everything_together(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    """Server, nginx and Prometheus side by side: keys at the door, no other door, and metrics of both.

    The server then comes back under another address, and nginx finds it.
    """
    tmp_path.chmod(0o755)
    models = tmp_path / "models"
    save_half_plus(models / "digits" / "1")
    secrets = tmp_path / "secrets"
    made = subprocess.run(
        [ROOT / "docker" / "nginx" / "make-secrets.sh", secrets], check=True, capture_output=True, text=True
    )
    ports = {name: str(free_port()) for name in ("SECURE_GRPC_PORT", "SECURE_REST_PORT", "PROMETHEUS_PORT")}
    project = Compose(
        "embedded,secure,monitoring",
        models,
        COMPOSE_FILE="compose.yaml:compose.secure.yaml",
        SECRETS_DIR=str(secrets),
        PROXY_USER=made.stderr.rpartition("PROXY_USER=")[2].strip(),
        SECURE_ADDRESS="127.0.0.1",
        **ports,
        **stand_ins,
    )
    keys = dict(line.split()[::-1] for line in (secrets / "keys.map").read_text().splitlines() if line[0] != "#")
    tls = Tls(ca=secrets / "server.pem")
    urls = (f"grpcs://127.0.0.1:{ports['SECURE_GRPC_PORT']}", f"https://127.0.0.1:{ports['SECURE_REST_PORT']}")
    services = ("embedded", "secure", "prometheus")
    rows = np.arange(1_300_000, dtype=np.float32)
    try:
        project.run("up", "--detach", "--wait", "--wait-timeout", "120", *services)
        for url in urls:
            with Client(url, tls=tls, bearer_token="wrong", retry=None) as client, pytest.raises(Unauthenticated):
                client.status("digits")
            with Client(url, tls=tls, bearer_token=keys["user:first;"]) as client:
                np.testing.assert_allclose(client.predict("digits", rows)["y"], rows / 2 + 2)
        text = (project.config / "models.config").read_text()
        with Client(urls[0], tls=tls, bearer_token=keys["user:first;"]) as client, pytest.raises(PermissionDenied):
            client.reload_config(text)
        with Client(urls[0], tls=tls, bearer_token=keys["admin:first;"]) as client:
            client.reload_config(text)
        for service in services:
            status = project.run("exec", "-T", service, "cat", "/proc/1/status")
            facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            assert "0" not in facts["Uid"].split(), service
            assert (int(facts["CapBnd"], 16), facts["NoNewPrivs"]) == (0, "1"), service
        published = project.run("ps", "--format", "json", "embedded")
        assert not [each for each in json.loads(published)["Publishers"] if each["PublishedPort"]]
        _wait_until_scraped(int(ports["PROMETHEUS_PORT"]))
        project.run("up", "--detach", "--wait", "--wait-timeout", "120", "--force-recreate", "embedded")
        for url in urls:
            with Client(url, tls=tls, bearer_token=keys["user:first;"], timeout=60) as client:
                client.wait_until_available("digits", timeout=60)
                np.testing.assert_allclose(client.predict("digits", rows[:3])["y"], rows[:3] / 2 + 2)
    finally:
        project.run("down", "--volumes", "--timeout", "20")


def _wait_until_scraped(port: int) -> None:
    deadline = time.monotonic() + 60
    query = 'up{job="tensorflow-serving"}'
    while True:
        reply = requests.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}, timeout=10).json()
        found = [(each["metric"]["service"], each["value"][1]) for each in reply["data"]["result"]]
        if found == [("embedded", "1")]:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("profiles", "services"),
    [
        (["serving"], {"serving"}),
        (["embedded"], {"embedded"}),
        (["gpu"], {"gpu"}),
        (["serving", "monitoring"], {"serving", "prometheus", "grafana"}),
        (["embedded", "secure"], {"embedded", "secure"}),
        (["gpu", "secure", "monitoring"], {"gpu", "secure", "prometheus", "grafana"}),
    ],
)
@pytest.mark.parametrize("is_alone", [False, True], ids=["published", "private"])
def test_profiles_combine(profiles: list[str], services: set[str], is_alone: bool) -> None:
    """Each combination is a valid configuration in which nothing runs with more than it needs."""
    files = ["-f", "compose.yaml", *(["-f", "compose.secure.yaml"] if is_alone else [])]
    chosen = [part for profile in profiles for part in ("--profile", profile)]
    shown = subprocess.run(
        ["docker", "compose", *files, *chosen, "config", "--format", "json"],
        cwd=ROOT / "docker",
        capture_output=True,
        check=True,
    ).stdout
    found = json.loads(shown)["services"]
    assert set(found) == services
    for name, service in found.items():
        assert service["read_only"] is True
        assert service["init"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["cpus"]
        assert int(service["mem_limit"]) > 0
        assert service["pids_limit"] > 0
        assert service["healthcheck"]["test"]
        assert service["logging"]["options"]["max-size"]
        assert ":" in service["image"]
        if name in {"serving", "embedded", "gpu"}:
            assert "--allow_version_labels_for_unavailable_models=true" in service["command"]
            assert bool(service.get("ports")) is not is_alone
            assert service["user"] == "10001:10001"
