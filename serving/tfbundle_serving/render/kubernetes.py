"""The Kubernetes documents of docker/kubernetes/, filled from a models.config. Only computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from tfbundle_serving.config.models import ModelConfig

from .kustomize import with_hashed_names
from .manifest import Document, Manifest
from .memory import Memory
from .merge import merge
from .settings import ModelSource, Overlay, Place, RenderSettings
from .wanted import versions_to_pull

#: Under which label, and before which names, the templates have the name that --name replaces.
_TEMPLATE_NAME = "tfbundle"
_INSTANCE = "app.kubernetes.io/instance"

#: Where containers that pull see a claim or a node's folder.
_SOURCE_FOLDER = "/source"
#: A Secret with what the storage wants to know: AWS_ACCESS_KEY_ID and so on. It may be missing.
_STORAGE_SECRET = "tfbundle-storage"
_HTTPS = 443
_DNS = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the cluster shall serve.

    Attributes:
        models: The models of the configuration.
        config: Its text, as it is.
        root: The folder that all base paths have in common.
        memory: What a Pod asks for; None = what the overlay says, since no version is to be seen from here.
    """

    models: Sequence[ModelConfig]
    config: str
    root: str
    memory: Memory | None


def fill(template: Sequence[Manifest], wanted: Wanted, settings: RenderSettings) -> list[Manifest]:
    """Fill an overlay.

    Args:
        template: The overlay's documents, without hashes.
        wanted: What to serve.
        settings: How.

    Raises:
        InvalidArgument: Versions are to be pulled that the configuration does not name.
    """
    filled = [_FILL.get(each.kind, _as_it_is)(each, wanted, settings) for each in template]
    named = [_named(each, settings) for each in filled]
    return with_hashed_names(named)


def _as_it_is(manifest: Manifest, wanted: Wanted, settings: RenderSettings) -> Manifest:  # noqa: ARG001
    return manifest


def _fill_config(manifest: Manifest, wanted: Wanted, settings: RenderSettings) -> Manifest:  # noqa: ARG001
    return replace(manifest, body=merge(manifest.body, {"data": {"models.config": wanted.config}}))


def _fill_deployment(manifest: Manifest, wanted: Wanted, settings: RenderSettings) -> Manifest:
    pod = manifest.body["spec"]["template"]["spec"]
    server = _fill_server(pod["containers"][0], wanted, settings)
    change: Document = {"containers": [server], "volumes": _volumes(pod["volumes"], settings)}
    if settings.pulls:
        change["initContainers"] = pulling_containers(wanted, settings)
    if settings.replicas is not None and "replicas" in manifest.body["spec"]:
        manifest = replace(manifest, body=merge(manifest.body, {"spec": {"replicas": settings.replicas}}))
    body = _with_pod(manifest.body, {**pod, **change})
    why = wanted.memory.why if wanted.memory else ""
    return replace(manifest, body=body).with_comment(*(["", why] if why else []))


def _with_pod(deployment: Document, pod: Document) -> Document:
    spec = deployment["spec"]
    return {**deployment, "spec": {**spec, "template": {**spec["template"], "spec": pod}}}


def _fill_server(server: Document, wanted: Wanted, settings: RenderSettings) -> Document:
    names = [model.name for model in wanted.models]
    probes = {
        kind: merge(server[kind], {"exec": {"command": [*server[kind]["exec"]["command"][:3], *names]}})
        for kind in ("startupProbe", "readinessProbe")
        if "exec" in server[kind]
    }
    mounts = [
        {**mount, "mountPath": wanted.root} if mount["name"] == "models" else mount for mount in server["volumeMounts"]
    ]
    filled = {**server, **probes, "volumeMounts": mounts}
    if settings.image:
        filled["image"] = settings.image
    if wanted.memory:
        asked = {"memory": wanted.memory.quantity}
        filled["resources"] = merge(server["resources"], {"requests": asked, "limits": asked})
    return filled


def _volumes(volumes: Sequence[Document], settings: RenderSettings) -> list[Document]:
    if not settings.pulls:
        return [_storage("models", settings.source) if each["name"] == "models" else each for each in volumes]
    own: list[Document] = [{"name": "models", "emptyDir": {}} if each["name"] == "models" else each for each in volumes]
    return own if settings.source.place is Place.REMOTE else [*own, _storage("source", settings.source)]


def _storage(name: str, source: ModelSource) -> Document:
    if source.place is Place.HOST:
        return {"name": name, "hostPath": {"path": source.where, "type": "Directory"}}
    return {"name": name, "persistentVolumeClaim": {"claimName": source.where, "readOnly": True}}


def pulling_containers(wanted: Wanted, settings: RenderSettings) -> list[Document]:
    """Make the containers that copy versions and verify their hashes before the server starts, one for each version."""
    is_remote = settings.source.place is Place.REMOTE
    above = settings.source.where if is_remote else _SOURCE_FOLDER
    containers: list[Document] = []
    for model in wanted.models:
        # Below the place, as below the root: /models/team/digits comes from s3://bucket/models/team/digits.
        source = above + model.base_path.rstrip("/").removeprefix(wanted.root)
        for version in versions_to_pull(model):
            number = [] if version is None else [f"--version={version}"]
            endpoint = [f"--endpoint-url={settings.endpoint_url}"] if settings.endpoint_url and is_remote else []
            mounts: list[Document] = [
                {"name": "models", "mountPath": wanted.root},
                {"name": "tmp", "mountPath": "/tmp"},
            ]
            if not is_remote:
                mounts.append({"name": "source", "mountPath": _SOURCE_FOLDER, "readOnly": True})
            containers.append(
                {
                    "name": f"pull-{len(containers) + 1}",
                    "image": settings.pull_image,
                    "command": ["tfbundle", "pull", source, model.base_path, *number, *endpoint],
                    # Libraries for cloud storage look for a home, and the Pod's user has none.
                    "env": [{"name": "HOME", "value": "/tmp"}],
                    **({"envFrom": [_secret()]} if is_remote else {}),
                    "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": mounts,
                }
            )
    return containers


def _secret() -> Document:
    return {"secretRef": {"name": _STORAGE_SECRET, "optional": True}}


def _fill_policy(manifest: Manifest, wanted: Wanted, settings: RenderSettings) -> Manifest:  # noqa: ARG001
    if not (settings.pulls and settings.source.place is Place.REMOTE):
        return manifest
    endpoint = urlsplit(settings.endpoint_url)
    storage = endpoint.port or {"http": 80}.get(endpoint.scheme, _HTTPS)
    egress = [
        {"ports": [{"port": _DNS, "protocol": "UDP"}, {"port": _DNS, "protocol": "TCP"}]},
        {"ports": [{"port": storage, "protocol": "TCP"}]},
    ]
    why = "It may ask for names and reach the storage that versions are pulled from, by port."
    body = {**manifest.body, "spec": {**manifest.body["spec"], "egress": egress}}
    return replace(manifest, body=body).with_comment(why)


def _fill_autoscaler(manifest: Manifest, wanted: Wanted, settings: RenderSettings) -> Manifest:  # noqa: ARG001
    if settings.replicas is None:
        return manifest
    # Twice the fleet for a day that nobody foresaw; more is a decision.
    most = max(manifest.body["spec"]["maxReplicas"], 2 * settings.replicas)
    change = {"spec": {"minReplicas": settings.replicas, "maxReplicas": most}}
    return replace(manifest, body=merge(manifest.body, change))


#: Kind to what fills it.
_FILL: Mapping[str, Callable[[Manifest, Wanted, RenderSettings], Manifest]] = {
    "ConfigMap": _fill_config,
    "Deployment": _fill_deployment,
    "NetworkPolicy": _fill_policy,
    "HorizontalPodAutoscaler": _fill_autoscaler,
}


def _named(manifest: Manifest, settings: RenderSettings) -> Manifest:
    """Give a document, and what it refers to, the name that was asked for, and the namespace."""
    body: Document = _renamed(manifest.body, settings.name)
    metadata = {**body["metadata"], **({"namespace": settings.namespace} if settings.namespace else {})}
    comment = manifest.comment.replace("///tfbundle-headless", f"///{settings.name}-headless")
    return replace(manifest, body={**body, "metadata": metadata}, comment=comment)


#: The names of the templates that belong to one deployment; claims and Secrets do not.
_OWN_NAMES = frozenset({_TEMPLATE_NAME, f"{_TEMPLATE_NAME}-headless", f"{_TEMPLATE_NAME}-config"})
#: The fields in which they stand.
_NAME_FIELDS = frozenset({"name", "serviceAccountName", _INSTANCE})


def _renamed(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_renamed(each, name) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: name + each.removeprefix(_TEMPLATE_NAME)
        if key in _NAME_FIELDS and isinstance(each, str) and each in _OWN_NAMES
        else _renamed(each, name)
        for key, each in value.items()
    }


def overlay_folder(overlay: Overlay) -> str:
    """Name the template of an overlay, below docker/."""
    return f"kubernetes/overlays/{overlay.value}"
