"""Strategic merge: an overlay's patch laid on a document of the base, as kustomize does it.

Mappings are merged, a null deletes, lists that have a merge key are merged by it, other lists are replaced.

Source: kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch (merge keys of the API).
"""

from __future__ import annotations

from typing import Any

from .manifest import Document

#: Field that holds a list to the key by which its entries are told apart.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}


def merge(base: Document, patch: Document) -> Document:
    """Lay a patch on a document; neither is changed."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, dict) else {}, value)
        elif isinstance(value, list) and key in _MERGE_KEYS:
            merged[key] = _merge_list(merged.get(key) or [], value, _MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def _merge_list(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    changes = {entry[key]: entry for entry in patch}
    kept = [merge(entry, changes.pop(entry[key], {})) for entry in base]
    return [*kept, *(merge({}, entry) for entry in changes.values())]
