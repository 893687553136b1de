"""docker/kubernetes/ for real: built by kubectl, and the rendered Pods run by podman, called and replaced.

podman knows Deployments and ConfigMaps of all that is rendered. What is changed for it: ports are published on
loopback, and where Pods pull versions the shared emptyDir is a folder and nothing restarts, since podman gives an
emptyDir to root and starts init containers again.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.models import save_half_plus
from tfbundle_client import Client

ROOT = Path(__file__).parents[2]
#: Which image of the embedded server podman has; `docker save tfbundle | podman load` puts it there.
IMAGE = os.environ.get("TFBUNDLE_PODMAN_IMAGE", "localhost/tfbundle:latest")
X = np.array([1.0, 2.0, 5.0], np.float32)

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def _podman_has_the_image() -> bool:
    if shutil.which("podman") is None:
        return False
    return subprocess.run(["podman", "image", "exists", IMAGE], capture_output=True, check=False).returncode == 0


needs_podman = pytest.mark.skipif(
    not _podman_has_the_image(), reason=f"podman is not installed, or has no image {IMAGE} (docker save | podman load)"
)


def render(*arguments: str | Path) -> list[dict[str, Any]]:
    """Run `tfbundle render kubernetes` as a person does."""
    command = [sys.executable, "-m", "tfbundle", "render", "kubernetes", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def comparable(text: str) -> list[dict[str, Any]]:
    """Give documents in one order, ConfigMaps without their hash, whose rule changed between releases of kubectl."""
    documents = yaml.safe_load_all(re.sub(r"tfbundle-config-\w{10}", "tfbundle-config-HASH", text))
    return sorted((each for each in documents if each), key=lambda each: (each["kind"], each["metadata"]["name"]))


@needs_kubectl
@pytest.mark.parametrize("overlay", ["cpu", "gpu", "embedded"])
def test_kubectl_makes_the_same_of_the_files(overlay: str) -> None:
    """`kubectl apply -k` and `tfbundle render` with the shipped configuration are the same deployment."""
    folder = ROOT / "docker/kubernetes/overlays" / overlay
    made = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout
    rendered = render("--overlay", overlay, "--config", ROOT / "serving/models.config")
    assert comparable(made) == comparable(yaml.safe_dump_all(rendered))


@needs_kubectl
@pytest.mark.parametrize("folder", ["kserve", "kserve/embedded", "monitoring"])
def test_kubectl_takes_the_other_folders(folder: str) -> None:
    """The other kustomizations are whole."""
    path = ROOT / "docker/kubernetes" / folder
    made = subprocess.run(["kubectl", "kustomize", str(path)], capture_output=True, text=True, check=True).stdout
    assert len(comparable(made)) == 1


class Pod:
    """One rendered Pod that podman runs, under a name of its own, on free ports of loopback."""

    def __init__(self, folder: Path) -> None:
        self.name = f"tfbundle-test-{uuid.uuid4().hex[:8]}"
        self.grpc_port, self.rest_port = _free_port(), _free_port()
        self.file = folder / "pod.yaml"
        self._volumes: set[str] = set()

    @property
    def container(self) -> str:
        """The server's container, as podman calls it."""
        return f"{self.name}-pod-0-server"

    def play(
        self, *arguments: str | Path, pulled: Path | None = None, replace: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Render and run; with `replace` in place of what ran."""
        kinds = ("--kinds", "ConfigMap,Deployment")
        documents = render(*arguments, "--name", self.name, "--overlay", "embedded", "--image", IMAGE, *kinds)
        for each in documents:
            if each["kind"] == "Deployment":
                self._adapt(each["spec"]["template"]["spec"], pulled)
            else:
                self._volumes.add(each["metadata"]["name"])
        self.file.write_text(yaml.safe_dump_all(documents))
        return podman("kube", "play", *(["--replace"] if replace else []), str(self.file))

    def _adapt(self, spec: dict[str, Any], pulled: Path | None) -> None:
        for port, host_port in zip(spec["containers"][0]["ports"], (self.grpc_port, self.rest_port), strict=True):
            port |= {"hostIP": "127.0.0.1", "hostPort": host_port}
        for volume in spec["volumes"]:
            if volume["name"] == "tmp":
                volume["name"] = f"{self.name}-tmp"
                self._volumes.add(volume["name"])
            elif volume["name"] == "models" and pulled is not None:
                volume.pop("emptyDir")
                volume["hostPath"] = {"path": str(pulled), "type": "Directory"}
                spec["restartPolicy"] = "Never"
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            for mount in container["volumeMounts"]:
                if mount["name"] == "tmp":
                    mount["name"] = f"{self.name}-tmp"

    def down(self) -> None:
        """Stop and remove it, with what podman made of its volumes."""
        if self.file.exists():
            podman("kube", "down", str(self.file))
        podman("volume", "rm", "--force", *self._volumes)


def podman(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run podman."""
    return subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False, timeout=240)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    """A Pod that is not run yet; it is gone after the test."""
    tried = podman("run", "--rm", "--entrypoint", "true", IMAGE)
    if tried.returncode:
        pytest.skip(f"podman runs no container here: {tried.stderr.strip().splitlines()[-1]}")
    found = Pod(tmp_path)
    yield found
    found.down()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with the model `digits`, versions 1 and 2, that every user may read."""
    tmp_path.chmod(0o755)
    for number, addend in ((1, 2.0), (2, 10.0)):
        save_half_plus(tmp_path / "models/digits" / str(number), addend=addend)
    for path in (tmp_path / "models").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "models").chmod(0o755)
    return tmp_path / "models"


def write_config(folder: Path, *versions: int, stable: int) -> Path:
    """Write a models.config of these versions of `digits` and a label."""
    listed = " ".join(f"versions: {number}" for number in versions)
    path = folder / "models.config"
    path.write_text(
        'model_config_list { config { name: "digits" base_path: "/models/digits" model_platform: "tensorflow"\n'
        f"  model_version_policy {{ specific {{ {listed} }} }}\n"
        f'  version_labels {{ key: "stable" value: {stable} }} }} }}\n'
    )
    return path


def wait_until_served(pod: Pod) -> None:
    """Wait until the Pod answers for `digits`."""
    with Client(f"grpc://127.0.0.1:{pod.grpc_port}") as client:
        client.wait_until_available("digits", timeout=90)


@pytest.mark.docker
@pytest.mark.timeout(400)
@needs_podman
def test_a_rendered_pod_serves_and_is_replaced(pod: Pod, models: Path, tmp_path: Path) -> None:
    """Labels of the configuration answer over both transports, probes pass, and the next configuration takes over."""
    place = ("--models-dir", models, "--models-from", f"hostPath:{models}")
    played = pod.play("--config", write_config(tmp_path, 1, 2, stable=1), *place)
    assert played.returncode == 0, played.stderr
    wait_until_served(pod)
    for url in (f"grpc://127.0.0.1:{pod.grpc_port}", f"http://127.0.0.1:{pod.rest_port}"):
        with Client(url) as client:
            np.testing.assert_allclose(client.predict("digits", X, label="stable")["y"], [2.5, 3.0, 4.5])
            assert client.predict("digits", X).version == 2
    for which, names, code in (("every", ["digits"], 0), ("every", ["digits", "no"], 1), ("any", ["no", "digits"], 0)):
        assert podman("exec", pod.container, "bash", "/config/probe.sh", which, *names).returncode == code
    assert podman("exec", pod.container, "bash", "/config/probe.sh", "any", "no").returncode == 1
    assert podman("exec", pod.container, "id", "-u").stdout.strip() == "10001"
    assert podman("exec", pod.container, "sh", "-c", "touch /x /models/x /config/x").returncode != 0

    played = pod.play("--config", write_config(tmp_path, 2, stable=2), *place, replace=True)
    assert played.returncode == 0, played.stderr
    wait_until_served(pod)
    with Client(f"grpc://127.0.0.1:{pod.grpc_port}") as client:
        assert [each.version for each in client.status("digits")] == [2]
        assert client.predict("digits", X, label="stable").version == 2


@pytest.mark.docker
@pytest.mark.timeout(400)
@needs_podman
def test_a_rendered_pod_pulls_what_it_serves_and_refuses_what_was_changed(pod: Pod, tmp_path: Path) -> None:
    """Versions are copied and held against their hashes; with a changed byte the server is never started."""
    if podman("run", "--rm", "--entrypoint", "tfbundle", IMAGE, "pull", "--help").returncode:
        pytest.skip(f"{IMAGE} was built before `tfbundle pull` was; docker build, docker save | podman load")
    tmp_path.chmod(0o755)
    store, pulled = tmp_path / "store", tmp_path / "pulled"
    export_half_plus(store / "digits")
    pulled.mkdir()
    pulled.chmod(0o777)
    arguments = ("--config", write_config(tmp_path, 1, stable=1), "--models-from", f"hostPath:{store}", "--pull")
    played = pod.play(*arguments, pulled=pulled)
    assert played.returncode == 0, played.stderr
    wait_until_served(pod)
    with Client(f"grpc://127.0.0.1:{pod.grpc_port}") as client:
        np.testing.assert_allclose(client.predict("digits", X, label="stable")["y"], [2.5, 3.0, 4.5])
    assert (pulled / "digits/1/saved_model.pb").exists()

    podman("kube", "down", str(pod.file))
    with (store / "digits/1/variables/variables.data-00000-of-00001").open("ab") as file:
        file.write(b"x")
    for left in pulled.iterdir():
        shutil.rmtree(left)
    assert pod.play(*arguments, pulled=pulled).returncode != 0
    assert not (pulled / "digits/1").exists()


def export_half_plus(base_path: Path) -> None:
    """Export version 1 of a model that halves and adds two, with its hashes."""
    import tensorflow as tf

    from tfbundle_exporter import export_model

    module = tf.Module()
    module.addend = tf.Variable(2.0)
    module.run = tf.function(
        lambda x: {"y": 0.5 * x + module.addend},
        autograph=False,
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
    )
    export_model(module, base_path)
