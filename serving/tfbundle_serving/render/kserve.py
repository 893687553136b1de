"""KServe's InferenceServices of docker/kubernetes/kserve/, one for each model. Only computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.config.models import ModelConfig

from .manifest import Document, Manifest
from .memory import Memory
from .merge import merge
from .settings import Overlay, Place, RenderSettings, dns_label


def fill(
    template: Manifest, models: Sequence[ModelConfig], root: str, memory: Mapping[str, Memory], settings: RenderSettings
) -> list[Manifest]:
    """Fill the InferenceService, once for each model.

    Args:
        template: The overlay's document.
        models: What to serve.
        root: The folder that all base paths have in common; it stands for the place of `settings.source`.
        memory: Model name to what its Pods ask for; without those whose versions are not to be seen from here.
        settings: How.

    Raises:
        InvalidArgument: KServe cannot read from that place, or two models would have one name.
    """
    if settings.source.place is Place.HOST:
        raise InvalidArgument(
            f"KServe does not read from a node's folder (hostPath:{settings.source.where}); "
            "expected --models-from pvc:CLAIM, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
        )
    named: dict[str, ModelConfig] = {}
    for model in models:
        label = dns_label(model.name)
        if label in named:
            raise InvalidArgument(
                f"the models {named[label].name} and {model.name} would both be called {label}; rename one"
            )
        named[label] = model
    return [_service(template, label, model, root, memory.get(model.name), settings) for label, model in named.items()]


def _service(
    template: Manifest, label: str, model: ModelConfig, root: str, memory: Memory | None, settings: RenderSettings
) -> Manifest:
    below = model.base_path.rstrip("/").removeprefix(root)
    source = settings.source
    uri = (f"pvc://{source.where}" if source.place is Place.CLAIM else source.where) + below
    predictor = template.body["spec"]["predictor"]
    runs = _custom if settings.overlay is Overlay.EMBEDDED else _runtime
    predictor = runs(predictor, label, model, uri, memory, settings)
    if settings.replicas is not None:
        most = max(predictor["maxReplicas"], 2 * settings.replicas)
        predictor = {**predictor, "minReplicas": settings.replicas, "maxReplicas": most}
    metadata = {**template.body["metadata"], "name": label}
    if settings.namespace:
        metadata["namespace"] = settings.namespace
    body = {**template.body, "metadata": metadata, "spec": {"predictor": predictor}}
    return replace(template, body=body).with_comment(*(["", memory.why] if memory else []))


def _resources(resources: Document, memory: Memory | None) -> Document:
    if memory is None:
        return resources
    asked = {"memory": memory.quantity}
    return merge(resources, {"requests": asked, "limits": asked})


def _runtime(
    predictor: Document, label: str, model: ModelConfig, uri: str, memory: Memory | None, settings: RenderSettings
) -> Document:
    run: dict[str, Any] = {**predictor["model"], "storageUri": uri}
    run["resources"] = _resources(run["resources"], memory)
    if settings.overlay is Overlay.GPU:
        run["resources"] = merge(run["resources"], {"limits": {"nvidia.com/gpu": "1"}})
    if settings.image:
        run["image"] = settings.image
    if label != model.name:
        # KServe's runtime gives the InferenceService's name; of two flags of a kind the last one wins.
        run["args"] = [f"--model_name={model.name}"]
    return {**predictor, "model": run}


def _custom(
    predictor: Document,
    label: str,  # noqa: ARG001
    model: ModelConfig,
    uri: str,
    memory: Memory | None,
    settings: RenderSettings,
) -> Document:
    container = predictor["containers"][0]
    flags = [flag for flag in container["args"] if not flag.startswith("--model_name=")]
    flags.insert(1, f"--model_name={model.name}")
    filled = {
        **container,
        "args": flags,
        "env": [{"name": "STORAGE_URI", "value": uri}],
        "resources": _resources(container["resources"], memory),
    }
    if settings.image:
        filled["image"] = settings.image
    return {**predictor, "containers": [filled]}


def template_folder(overlay: Overlay) -> str:
    """Name the template of an overlay, below docker/."""
    return "kubernetes/kserve/embedded" if overlay is Overlay.EMBEDDED else "kubernetes/kserve"
