"""`tfbundle render kubernetes | kserve | compose`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tfbundle_serving.apis.version_policy import Latest
from tfbundle_serving.config.models import read_models

from .settings import Overlay, Place, RenderSettings, parse_source

if TYPE_CHECKING:
    from tfbundle_serving.config.models import ModelConfig

    from .manifest import Manifest
    from .memory import Memory
    from .wanted import OnDisk

Function = TypeVar("Function", bound=Callable[..., Any])

_SHARED = (
    click.option("--config", required=True, metavar="FILE", help="The models.config to serve."),
    click.option(
        "--overlay",
        type=click.Choice([each.value for each in Overlay]),
        default=Overlay.CPU.value,
        show_default=True,
        help="tensorflow/serving on CPUs or GPUs, or the embedded server.",
    ),
    click.option("--image", default="", help="The server's image.  [default: the overlay's]"),
    click.option(
        "--models-dir",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Where the models' folders are on this machine, to look at versions.  [default: at their base paths]",
    ),
    click.option("--output", metavar="FILE|FOLDER", help="Write there.  [default: standard output]"),
    click.option("--json", "as_json", is_flag=True, help="Write JSON instead of YAML."),
)
_CLUSTER = (
    click.option("--namespace", default="", help="The namespace; without it kubectl decides."),
    click.option(
        "--models-from",
        default="pvc:tfbundle-models",
        show_default=True,
        metavar="PLACE",
        help="pvc:CLAIM, hostPath:/FOLDER, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER: what holds the models' folders.",
    ),
    click.option("--replicas", type=click.IntRange(1), help="Pods at least.  [default: 2]"),
    click.option("--rate", type=float, help="Requests a second to plan for, instead of --replicas."),
    click.option("--per-replica", type=float, help="Requests a second that one Pod answers; see bench --sweep."),
)


def _with_options(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def add(command: Function) -> Function:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group()
def render() -> None:
    """Write the files that serve the models of a models.config: for Kubernetes, KServe or Docker Compose."""


@render.command("kubernetes")
@_with_options(*_SHARED, *_CLUSTER)
@click.option(
    "--name", default="tfbundle", show_default=True, help="Name of the Deployment and of all that belongs to it."
)
@click.option(
    "--pull", "pulls", is_flag=True, help="Copy and verify the versions into each Pod; s3:// and gs:// always do."
)
@click.option("--pull-image", default="", help="The image that pulls.  [default: tfbundle:latest; --image if embedded]")
@click.option("--endpoint-url", default="", metavar="URL", help="Where the S3 service is, if not Amazon's.")
@click.option("--service-monitor", is_flag=True, help="Add a ServiceMonitor for the Prometheus operator.")
@click.option("--kinds", metavar="KIND,...", help="These kinds of document alone, such as ConfigMap,Deployment.")
def kubernetes_command(**options: Any) -> None:
    """Fill docker/kubernetes/: Deployment, Services, autoscaler, policies, configuration."""
    from . import kubernetes
    from .kustomize import read_overlay
    from .templates import template

    models, root, seen = _read(options)
    settings = _settings(options)
    wanted = kubernetes.Wanted(
        models=models,
        config=Path(options["config"]).read_text("utf-8"),
        root=root,
        memory=_memory(models, seen, on_gpu=settings.overlay is Overlay.GPU),
    )
    found = read_overlay(template(kubernetes.overlay_folder(settings.overlay)))
    if settings.service_monitor:
        found += read_overlay(template("kubernetes/monitoring"))
    _say_of_pulling(models, settings)
    _write(_of_kinds(kubernetes.fill(found, wanted, settings), options["kinds"]), options)


@render.command("kserve")
@_with_options(*_SHARED, *_CLUSTER)
def kserve_command(**options: Any) -> None:
    """Fill docker/kubernetes/kserve/: an InferenceService for each model."""
    from . import kserve
    from .kustomize import read_overlay
    from .memory import memory_for
    from .templates import template
    from .wanted import served_sizes

    models, root, seen = _read(options)
    settings = _settings(options)
    on_gpu = settings.overlay is Overlay.GPU
    memory = {
        model.name: memory_for(served_sizes(model, seen[model.name]), on_gpu=on_gpu)
        for model in models
        if model.name in seen
    }
    (found,) = read_overlay(template(kserve.template_folder(settings.overlay)))
    for model in models:
        if model.labels or not isinstance(model.policy, Latest):
            _say(f"model {model.name}: KServe serves the highest version alone, its policy and labels are left out")
    _write(kserve.fill(found, models, root, memory, settings), options)


@render.command("compose")
@_with_options(*_SHARED)
@click.option("--name", default="tfbundle", show_default=True, help="Name of the Compose project.")
def compose_command(**options: Any) -> None:
    """Make one service of docker/compose.yaml a file that stands alone."""
    import yaml

    from .compose import MONITORING, ComposeSettings, fill
    from .settings import check_name
    from .templates import template

    check_name("--name", options["name"])
    models, root, seen = _read(options)
    overlay = Overlay(options["overlay"])
    models_dir = (options["models_dir"] or Path(root)).absolute()
    if not models_dir.is_dir():
        raise click.UsageError(f"there is no {models_dir} on this machine; --models-dir says where the models are")
    config = Path(options["config"]).resolve()
    shows_metrics = (config.parent / MONITORING).is_file()
    if not shows_metrics:
        _say(f"there is no {MONITORING} beside {config.name}, so the server will show no metrics")
    if more := _not_configuration(config.parent, options["output"]):
        _say(
            f"all of {config.parent} is mounted at /config, and there is more in it than configuration "
            f"({', '.join(more[:3])}{', ...' if len(more) > 3 else ''}): give {config.name} a folder of its own"
        )
    filled = fill(
        yaml.safe_load(template("compose.yaml").read_text("utf-8")),
        template("healthcheck.sh").read_text("utf-8"),
        ComposeSettings(
            overlay=overlay,
            project=options["name"],
            config=config,
            models_dir=models_dir,
            root=root,
            image=options["image"],
            memory=_memory(models, seen, on_gpu=overlay is Overlay.GPU),
            shows_metrics=shows_metrics,
        ),
    )
    _write([filled], options)


def _not_configuration(folder: Path, output: str | None) -> list[str]:
    """List what lies in a folder besides *.config, what `tfbundle promote` keeps beside them, and the output."""
    ours = None if output is None else Path(output).resolve()
    return sorted(each.name for each in folder.iterdir() if ".config" not in each.name and each.resolve() != ours)


def _read(options: dict[str, Any]) -> tuple[Sequence[ModelConfig], str, dict[str, OnDisk]]:
    """Read the configuration, look at the versions, and refuse what could not be served."""
    from .wanted import check_against_disk, look, mount_root

    models = read_models(Path(options["config"]))
    root = mount_root(models)
    seen = look(models, root, options["models_dir"])
    check_against_disk(models, seen)
    for model in models:
        if model.name not in seen:
            _say(
                f"model {model.name}: its versions are not to be seen from here, so neither they nor the memory that "
                "they need were checked; --models-dir says where the models are"
            )
    return models, root, seen


def _settings(options: dict[str, Any]) -> RenderSettings:
    """Read the options that several commands have.

    Raises:
        click.UsageError: They contradict each other.
    """
    from .fleet import replicas_for

    rate, per_replica, replicas = options["rate"], options["per_replica"], options["replicas"]
    if (rate is None) != (per_replica is None):
        raise click.UsageError("--rate and --per-replica go together: requests a second of all, and of one Pod")
    if rate is not None:
        if replicas is not None:
            raise click.UsageError("give --replicas, or --rate and --per-replica, not both")
        replicas = replicas_for(rate, per_replica)
        _say(f"{replicas} replicas: {rate:g} requests a second at {per_replica:g} each, used to 60 %, one may be lost")
    overlay = Overlay(options["overlay"])
    source = parse_source(options["models_from"])
    pull_image = options.get("pull_image") or (options["image"] if overlay is Overlay.EMBEDDED else "")
    return RenderSettings(
        overlay=overlay,
        source=source,
        name=options.get("name", "tfbundle"),
        namespace=options["namespace"],
        image=options["image"],
        pull_image=pull_image or "tfbundle:latest",
        pulls=options.get("pulls", False) or source.place is Place.REMOTE,
        endpoint_url=options.get("endpoint_url", ""),
        replicas=replicas,
        service_monitor=options.get("service_monitor", False),
    )


def _memory(models: Sequence[ModelConfig], seen: dict[str, OnDisk], *, on_gpu: bool) -> Memory | None:
    from .memory import memory_for
    from .wanted import served_sizes

    if len(seen) < len(models):
        return None
    sizes = [size for model in models for size in served_sizes(model, seen[model.name])]
    return memory_for(sizes, on_gpu=on_gpu)


def _say_of_pulling(models: Sequence[ModelConfig], settings: RenderSettings) -> None:
    from .wanted import versions_to_pull

    if not settings.pulls:
        return
    for model in models:
        if versions_to_pull(model) == [None]:
            _say(
                f"model {model.name}: each Pod pulls the version that is the highest when it starts, so Pods may serve "
                "different ones; model_version_policy { specific { versions: N } } makes them equal"
            )


def _of_kinds(manifests: list[Manifest], kinds: str | None) -> list[Manifest]:
    if kinds is None:
        return manifests
    asked = [kind.strip() for kind in kinds.split(",")]
    there = {each.kind for each in manifests}
    if unknown := [kind for kind in asked if kind not in there]:
        raise click.UsageError(f"--kinds: there is no {unknown[0]!r} among {', '.join(sorted(there))}")
    return [each for each in manifests if each.kind in asked]


def _write(manifests: Sequence[Manifest], options: dict[str, Any]) -> None:
    from .manifest import write_json, write_manifests
    from .output import write

    if options["output"] is None:
        click.echo(write_json(manifests) if options["as_json"] else write_manifests(manifests), nl=False)
        return
    for path in write(manifests, options["output"], as_json=options["as_json"]):
        _say(f"wrote {path}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
