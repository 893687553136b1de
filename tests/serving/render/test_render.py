"""`tfbundle render`: what it makes of a models.config, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tfbundle_serving.apis.errors import BundleError, InvalidArgument
from tfbundle_serving.render.fleet import replicas_for
from tfbundle_serving.render.kustomize import content_hash, read_overlay
from tfbundle_serving.render.memory import memory_for
from tfbundle_serving.render.merge import merge
from tfbundle_serving.render.settings import Place, dns_label, parse_source
from tfbundle_serving.render.templates import template

ROOT = Path(__file__).parents[3]
KINDS_OF_OTHERS = {"ServiceMonitor", "InferenceService"}

Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def render(capsys: pytest.CaptureFixture[str]) -> Render:
    """Run `tfbundle render` and give the documents that it writes."""
    from tfbundle_serving.cli import main

    def run(*arguments: str | Path) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert main(["render", *map(str, arguments)]) == 0
        return [each for each in yaml.safe_load_all(capsys.readouterr().out) if each]

    return run


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Write a models.config; each model by its name and the rest of its text."""

    def write(**models: str) -> Path:
        path = tmp_path / "models.config"
        listed = "".join(
            f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" {rest} }}\n'
            for name, rest in models.items()
        )
        path.write_text(f"# ours\nmodel_config_list {{\n{listed}}}\n")
        return path

    return write


def version(models: Path, model: str, number: int, size: int = 10) -> None:
    """Make something that looks like a version folder of a size."""
    folder = models / model / str(number)
    folder.mkdir(parents=True)
    with (folder / "saved_model.pb").open("wb") as file:
        file.truncate(size)


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Give the one document of a kind, or the first."""
    return next(each for each in documents if each["kind"] == kind)


def pod(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the Deployment's Pod."""
    spec: dict[str, Any] = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "embedded"])
@pytest.mark.parametrize("place", ["pvc:c", "hostPath:/srv/models", "s3://bucket/models"])
def test_every_document_is_valid(render: Render, overlay: str, place: str) -> None:
    """What is rendered is accepted by the strict schemas of Kubernetes, the oldest and the newest at hand."""
    arguments = ("kubernetes", "--config", ROOT / "serving/models.config", "--overlay", overlay, "--models-from", place)
    documents = render(*arguments, "--namespace", "ml", "--replicas", "3")
    assert {"Deployment", "ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget"} <= {
        each["kind"] for each in documents
    }
    for each in documents:
        for release in ("1.25", "1.35"):
            kubernetes_validate.validate(each, release, strict=True)
        assert each["metadata"]["namespace"] == "ml"


def test_the_configuration_stands_in_the_config_map_as_it_is(render: Render, config: Callable[..., Path]) -> None:
    """Comments and layout are kept, the folder is mounted, and another text gives another name."""
    path = config(a="", b="")
    first = render("kubernetes", "--config", path)
    assert of_kind(first, "ConfigMap")["data"]["models.config"] == path.read_text()
    path.write_text(path.read_text() + "# more\n")
    second = render("kubernetes", "--config", path)
    names = [of_kind(each, "ConfigMap")["metadata"]["name"] for each in (first, second)]
    assert names[0] != names[1]
    assert names[1] in [volume.get("configMap", {}).get("name") for volume in pod(second)["volumes"]]


def test_probes_ask_for_every_model(render: Render, config: Callable[..., Path]) -> None:
    """Start-up asks whether every model is AVAILABLE, readiness whether any is."""
    server = pod(render("kubernetes", "--config", config(a="", b="")))["containers"][0]
    assert server["startupProbe"]["exec"]["command"] == ["bash", "/config/probe.sh", "every", "a", "b"]
    assert server["readinessProbe"]["exec"]["command"] == ["bash", "/config/probe.sh", "any", "a", "b"]


def test_exactly_the_versions_of_the_policy_are_pulled(render: Render, config: Callable[..., Path]) -> None:
    """One init container a version, from below the place into the base path, with the way out that it needs."""
    path = config(a="model_version_policy { specific { versions: 7 versions: 3 } }", b="")
    url = "http://minio:9000"
    documents = render("kubernetes", "--config", path, "--models-from", "s3://bucket/m/", "--endpoint-url", url)
    assert [each["command"][2:] for each in pod(documents)["initContainers"]] == [
        ["s3://bucket/m/a", "/models/a", "--version=3", f"--endpoint-url={url}"],
        ["s3://bucket/m/a", "/models/a", "--version=7", f"--endpoint-url={url}"],
        ["s3://bucket/m/b", "/models/b", f"--endpoint-url={url}"],
    ]
    ports = [port["port"] for rule in of_kind(documents, "NetworkPolicy")["spec"]["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 9000]
    copied = render("kubernetes", "--config", path, "--models-from", "hostPath:/srv", "--pull")
    assert pod(copied)["initContainers"][0]["command"][2:] == ["/source/a", "/models/a", "--version=3"]
    assert "egress" not in of_kind(copied, "NetworkPolicy")["spec"]


def test_a_name_reaches_all_that_belongs_together(render: Render, config: Callable[..., Path]) -> None:
    """Two installations in one namespace do not touch each other's Pods."""
    documents = render("kubernetes", "--config", config(a=""), "--name", "risk", "--service-monitor")
    text = yaml.safe_dump_all(documents)
    assert all(each["metadata"]["name"].split("-")[0] == "risk" for each in documents)
    assert "app.kubernetes.io/instance: tfbundle" not in text
    assert of_kind(documents, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "risk"
    assert pod(documents)["volumes"][0]["persistentVolumeClaim"]["claimName"] == "tfbundle-models"


def test_memory_follows_from_the_version_folders(
    render: Render, config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the versions are to be seen the request is reckoned from them, and the sum is said."""
    models = tmp_path / "models"
    version(models, "a", 1, 400 << 20)
    path = config(a="")
    server = pod(render("kubernetes", "--config", path, "--models-dir", models))["containers"][0]
    asked = memory_for([400 << 20]).quantity
    assert server["resources"]["requests"]["memory"] == server["resources"]["limits"]["memory"] == asked
    assert "Gi" in pod(render("kubernetes", "--config", path))["containers"][0]["resources"]["limits"]["memory"]
    from tfbundle_serving.cli import main

    main(["render", "kubernetes", "--config", str(path)])
    assert "--models-dir" in capsys.readouterr().err


def test_more_versions_need_more_memory() -> None:
    """Each version counts once, the largest twice, and a GPU costs memory of the machine's own."""
    assert memory_for([]).mib < memory_for([1 << 30]).mib < memory_for([1 << 30, 1 << 30]).mib
    assert memory_for([1 << 30], on_gpu=True).mib > memory_for([1 << 30]).mib + 2000
    assert memory_for([1 << 30]).mib >= 2 * 1024


@pytest.mark.parametrize(
    ("rate", "per_replica", "expected"), [(2000, 450, 8), (10, 450, 2), (900, 450, 4), (450, 450, 2), (9000, 450, 34)]
)
def test_replicas_leave_room_for_one_lost(rate: float, per_replica: float, expected: int) -> None:
    """60 % at the busiest time, and enough when one is gone."""
    assert replicas_for(rate, per_replica) == expected
    assert (expected - 1) * per_replica >= rate


@pytest.mark.parametrize(
    ("rest", "arguments", "said"),
    [
        ("version_labels { key: 'stable' value: 9 }", ["--models-dir", "MODELS"], "label stable means version 9"),
        ("model_version_policy { specific { versions: 4 } }", ["--models-dir", "MODELS"], "version 4 is not in"),
        (
            "model_version_policy { specific { versions: 1 } } version_labels { key: 'x' value: 2 }",
            [],
            "label x means version 2",
        ),
        ("model_version_policy { all {} }", ["--models-from", "s3://b/m"], "name them"),
        ("version_labels { key: 'stable' value: 1 }", ["--models-from", "gs://b/m"], "name them"),
        ("", ["--models-from", "ftp://b/m"], "expected pvc:CLAIM"),
        ("", ["--models-from", "pvc:My_Claim"], "is no name for Kubernetes"),
        ("", ["--models-from", "hostPath:models"], "ABSOLUTE"),
        ("", ["--models-from", "s3:///m"], "BUCKET"),
        ("", ["--namespace", "My Space"], "--namespace"),
        ("", ["--name", "x" * 60], "--name"),
        ("", ["--endpoint-url", "minio:9000"], "http://HOST:PORT"),
    ],
)
def test_what_could_not_be_served_is_refused(
    config: Callable[..., Path], tmp_path: Path, rest: str, arguments: list[str], said: str
) -> None:
    """One clear line, before anything is written."""
    from tfbundle_serving.cli import main

    version(tmp_path / "models", "a", 1)
    given = [str(tmp_path / "models") if each == "MODELS" else each for each in arguments]
    with pytest.raises(BundleError, match=said) as caught:
        main(["render", "kubernetes", "--config", str(config(a=rest)), *given])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("base_paths", "said"),
    [
        (["models/a"], "absolute path"),
        (["gs://bucket/a"], "no plain path"),
        (["/a"], "no volume can be mounted"),
        (["/srv/a", "/data/b"], "no volume can be mounted: a container has a file system of its own below /"),
        (["/tmp/x/a", "/tmp/x/b"], r"a /tmp of its own.* /models \(base_path: \"/models/0\"\), .*--models-dir"),
        (["/config/a"], "configuration in /config"),
        (["/opt/a"], "files of its own in /opt"),
        (["/models/../etc/a"], "no plain path"),
        ([], "names no model"),
    ],
)
def test_base_paths_need_one_folder(tmp_path: Path, base_paths: list[str], said: str) -> None:
    """One volume holds all models, at a place where it hides nothing."""
    from tfbundle_serving.cli import main

    path = tmp_path / "models.config"
    listed = "".join(
        f'config {{ name: "{number}" base_path: "{each}" model_platform: "tensorflow" }}\n'
        for number, each in enumerate(base_paths)
    )
    path.write_text(f"model_config_list {{ {listed} }}")
    with pytest.raises(BundleError, match=said):
        main(["render", "kubernetes", "--config", str(path)])


def test_a_model_name_becomes_a_name_for_kubernetes(render: Render, config: Callable[..., Path]) -> None:
    """KServe's InferenceService is called what Kubernetes allows; requests go on naming the model."""
    documents = render("kserve", "--config", config(My_Model=""), "--models-from", "s3://bucket/m")
    model = documents[0]["spec"]["predictor"]["model"]
    assert documents[0]["metadata"]["name"] == "my-model"
    assert model["args"] == ["--model_name=My_Model"]
    assert model["storageUri"] == "s3://bucket/m/My_Model"
    embedded = render("kserve", "--config", config(My_Model=""), "--overlay", "embedded", "--replicas", "30")
    container = embedded[0]["spec"]["predictor"]["containers"][0]
    assert "--model_name=My_Model" in container["args"]
    assert container["env"] == [{"name": "STORAGE_URI", "value": "pvc://tfbundle-models/My_Model"}]
    assert embedded[0]["spec"]["predictor"]["maxReplicas"] == 60
    with pytest.raises(InvalidArgument, match="both be called my-model"):
        render("kserve", "--config", config(My_Model="", my_model=""))
    with pytest.raises(InvalidArgument, match="no letter or digit"):
        dns_label("___")


def test_compose_is_one_file_that_stands_alone(render: Render, config: Callable[..., Path], tmp_path: Path) -> None:
    """Folders are absolute, nothing of the repository is mounted, the health check is inside."""
    version(tmp_path / "models", "a", 1)
    path = config(a="")
    for overlay, service in {"cpu": "serving", "gpu": "gpu", "embedded": "embedded"}.items():
        (document,) = render("compose", "--config", path, "--models-dir", tmp_path / "models", "--overlay", overlay)
        (filled,) = document["services"].values()
        assert list(document["services"]) == [service]
        records = ["records:/records"] if overlay == "embedded" else []
        assert [each["source"] for each in filled["volumes"][:2]] == [str(tmp_path / "models"), str(tmp_path)]
        assert filled["volumes"][2:] == records
        assert list(document.get("volumes", ())) == ["records"] * len(records)
        assert "--model_config_file=/config/models.config" in filled["command"]
        assert "monitoring" not in filled["command"]
        assert "$$models" in filled["healthcheck"]["test"][3]
        assert not {"build", "profiles"} & filled.keys()


def test_compose_says_what_it_mounts_besides_the_configuration(
    config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A project around models.config, which the container would see, is told; files of ours and the output are not."""
    from tfbundle_serving.cli import main

    version(tmp_path / "models", "a", 1)
    own = tmp_path / "own"
    own.mkdir()
    path = config(a="").rename(own / "models.config")
    for name in ("monitoring.config", "models.config.history", ".models.config.lock"):
        (own / name).touch()
    arguments = ["render", "compose", "--config", str(path), "--models-dir", str(tmp_path / "models")]
    for _ in range(2):
        main([*arguments, "--output", str(own / "compose.yaml")])
        assert "is mounted at /config" not in capsys.readouterr().err
    (own / ".env").touch()
    main([*arguments, "--output", str(own / "compose.yaml")])
    assert f"all of {own} is mounted at /config, and there is more in it than configuration (.env): give" in (
        capsys.readouterr().err
    )


def test_output_goes_to_a_file_or_a_folder(config: Callable[..., Path], tmp_path: Path) -> None:
    """A folder gets a file for each document, under names that stay when the configuration changes."""
    from tfbundle_serving.cli import main

    path = str(config(a=""))
    main(["render", "kubernetes", "--config", path, "--output", f"{tmp_path}/all.yaml"])
    main(["render", "kubernetes", "--config", path, "--output", f"{tmp_path}/folder/"])
    main(["render", "kubernetes", "--config", path, "--output", f"{tmp_path}/all.json", "--json"])
    together = list(yaml.safe_load_all((tmp_path / "all.yaml").read_text()))
    apart = [yaml.safe_load(each.read_text()) for each in (tmp_path / "folder").iterdir()]
    assert sorted(map(str, together)) == sorted(map(str, apart))
    assert json.loads((tmp_path / "all.json").read_text())["items"] == together
    assert (tmp_path / "folder/configmap-tfbundle-config.yaml").exists()
    assert "# The Pods that serve." in (tmp_path / "all.yaml").read_text()


@pytest.mark.parametrize("flags", [["--rate", "5"], ["--rate", "5", "--per-replica", "1", "--replicas", "2"]])
def test_misuse_is_told_apart(config: Callable[..., Path], flags: list[str]) -> None:
    """Options that contradict each other end with exit code 2."""
    from tfbundle.cli import main

    assert main(["render", "kubernetes", "--config", str(config(a="")), *flags]) == 2
    assert main(["render", "kubernetes", "--config", str(config(a="")), "--overlay", "tpu"]) == 2
    assert main(["render", "kubernetes", "--config", str(config(a="")), "--kinds", "Pod"]) == 2
    assert main(["render", "kubernetes", "--config", "missing.config"]) == 1


def test_patches_are_merged_as_kubernetes_does() -> None:
    """Mappings merge, a null deletes, containers merge by name, other lists are replaced; the base stays as it is."""
    base: dict[str, Any] = {"containers": [{"name": "s", "args": [1, 2], "a": 1}], "x": {"y": 1, "z": 2}}
    patched = merge(base, {"containers": [{"name": "s", "args": [3]}, {"name": "t"}], "x": {"y": None}})
    assert patched == {"containers": [{"name": "s", "args": [3], "a": 1}, {"name": "t"}], "x": {"z": 2}}
    assert base["x"] == {"y": 1, "z": 2}


def test_the_templates_hold_the_shipped_configuration() -> None:
    """docker/kubernetes/base has copies, since kustomize reads nothing outside of its folder."""
    for name in ("models.config", "monitoring.config"):
        assert template(f"kubernetes/base/{name}").read_text() == (ROOT / "serving" / name).read_text()


def test_places_are_read() -> None:
    """A place is a claim, a folder of the nodes, or a URL without its last slash."""
    assert parse_source("pvc:models").place is Place.CLAIM
    assert parse_source("hostPath:/srv/models/").where == "/srv/models"
    assert parse_source("s3://bucket/models/").where == "s3://bucket/models"


def test_hashes_tell_contents_apart() -> None:
    """The hash is of name and content, in letters that spell nothing."""
    assert content_hash("n", {"a": "<&>"}) != content_hash("n", {"a": "<&"}) != content_hash("m", {"a": "<&"})
    assert not set(content_hash("n", {})) & set("013aeiou")


@pytest.mark.parametrize("folder", ["kserve", "kserve/embedded", "monitoring"])
def test_documents_of_other_projects_have_what_those_ask_for(folder: str) -> None:
    """InferenceService and ServiceMonitor are no kinds of Kubernetes: their fields are held against lists of ours."""
    (document,) = [each.body for each in read_overlay(template(f"kubernetes/{folder}"))]
    assert document["kind"] in KINDS_OF_OTHERS
    spec = document["spec"]
    if document["kind"] == "ServiceMonitor":
        assert document["apiVersion"] == "monitoring.coreos.com/v1"
        assert spec.keys() <= {"selector", "endpoints", "namespaceSelector"}
        assert all({"port", "path", "interval"} == each.keys() for each in spec["endpoints"])
        return
    assert document["apiVersion"] == "serving.kserve.io/v1beta1"
    predictor = spec["predictor"]
    assert ("model" in predictor) != ("containers" in predictor)
    if "model" in predictor:
        assert predictor["model"]["modelFormat"] == {"name": "tensorflow"}
        assert predictor["model"].keys() <= {"modelFormat", "storageUri", "resources", "args", "image"}
    else:
        # A predictor of containers is a Pod's specification with three fields more.
        body = {key: value for key, value in predictor.items() if key not in ("minReplicas", "maxReplicas")}
        as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": body}
        kubernetes_validate.validate(as_pod, "1.35", strict=True)
        assert body["containers"][0]["name"] == "kserve-container"
