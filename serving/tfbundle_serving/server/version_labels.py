"""Which version labels may be assigned.

A label may point at a version that is AVAILABLE, or that comes with the same list of models; TensorFlow Serving knows
only the first. With --allow_version_labels_for_unavailable_models a new label may point anywhere, but one that exists
may not leave its version for one that does not answer.

Source: tensorflow_serving/model_servers/server_core.cc (UpdateModelVersionLabelMap).
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from tfbundle_serving.apis.errors import FailedPrecondition
from tfbundle_serving.config.models import ModelConfig


def check_labels(
    model: ModelConfig, *, now: Mapping[str, int], versions: Container[int], allow_unavailable: bool = False
) -> None:
    """Refuse a model's labels if one of them may not be assigned.

    Args:
        model: The model as it should be.
        now: Its labels so far.
        versions: The versions that are AVAILABLE, or will be.
        allow_unavailable: Whether a new label may point anywhere.

    Raises:
        FailedPrecondition: TensorFlow Serving's text, for the first such label.
    """
    for version in bound_versions(model, now=now, allow_unavailable=allow_unavailable):
        if version not in versions:
            raise FailedPrecondition(
                f"Request to assign label to version {version} of model {model.name}, "
                "which is not currently available for inference"
            )


def bound_versions(model: ModelConfig, *, now: Mapping[str, int], allow_unavailable: bool = False) -> list[int]:
    """List the versions that must be AVAILABLE for a model's labels to be assigned; see `check_labels`."""
    return [
        version
        for label, version in model.labels.items()
        if not (allow_unavailable and now.get(label, version) == version)
    ]
