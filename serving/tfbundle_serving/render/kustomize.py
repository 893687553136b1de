"""The part of kustomize that docker/kubernetes/ uses, so that rendering needs no kubectl and keeps the comments.

Known are bases, resources, patchesStrategicMerge and configMapGenerator: spellings that kubectl 1.20 and current ones
share. A test holds the result equal to that of `kubectl kustomize`.

Source: kubectl.docs.kubernetes.io/references/kustomize/kustomization; the hash from kustomize's api/hasher.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from .manifest import Document, Manifest, read_manifests
from .merge import merge

_KNOWN = {"apiVersion", "kind", "bases", "resources", "patchesStrategicMerge", "configMapGenerator"}

#: kustomize writes its hashes without vowels and with no digits that look like letters, so that they spell nothing.
_HASH_LETTERS = str.maketrans("013ae", "ghkmt")
_HASH_LENGTH = 10


def read_overlay(folder: Path) -> list[Manifest]:
    """Read what a kustomization makes; names of ConfigMaps have no hash yet, see `with_hashed_names`.

    Raises:
        ValueError: The kustomization uses what is not known here.
    """
    content = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := content.keys() - _KNOWN:
        raise ValueError(f"{folder}/kustomization.yaml uses {', '.join(sorted(unknown))}, which is not known here")
    found: list[Manifest] = []
    for base in content.get("bases", ()):
        found += read_overlay((folder / base).resolve())
    for resource in content.get("resources", ()):
        found += read_manifests(folder / resource)
    for generator in content.get("configMapGenerator", ()):
        files = {name: (folder / name).read_text(encoding="utf-8") for name in generator["files"]}
        found.append(Manifest(body=config_map(generator["name"], files)))
    for name in content.get("patchesStrategicMerge", ()):
        for patch in read_manifests(folder / name):
            found = [_patched(each, patch) for each in found]
    return found


def _patched(manifest: Manifest, patch: Manifest) -> Manifest:
    if (manifest.kind, manifest.name) != (patch.kind, patch.name):
        return manifest
    said = patch.comment.splitlines()
    return replace(manifest, body=merge(manifest.body, patch.body)).with_comment(*(["", *said] if said else []))


def config_map(name: str, data: Mapping[str, str]) -> Document:
    """Make a ConfigMap of texts."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}


def with_hashed_names(manifests: list[Manifest]) -> list[Manifest]:
    """Let the name of each ConfigMap end in a hash of its content, wherever it is named."""
    names = {
        each.name: f"{each.name}-{content_hash(each.name, each.body['data'])}"
        for each in manifests
        if each.kind == "ConfigMap"
    }
    return [replace(each, body=_renamed(each, names)) for each in manifests]


def _renamed(manifest: Manifest, names: Mapping[str, str]) -> Document:
    body = manifest.body
    if manifest.kind == "ConfigMap":
        return {**body, "metadata": {**body["metadata"], "name": names[manifest.name]}}
    if manifest.kind != "Deployment":
        return body
    volumes = [_renamed_volume(each, names) for each in body["spec"]["template"]["spec"]["volumes"]]
    return merge(body, {"spec": {"template": {"spec": {"volumes": volumes}}}})


def _renamed_volume(volume: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    named = volume.get("configMap")
    return {**volume, "configMap": {**named, "name": names.get(named["name"], named["name"])}} if named else volume


def content_hash(name: str, data: Mapping[str, str]) -> str:
    """Give a hash for the name of a ConfigMap, by the rule of kubectl 1.20; later ones hash another text."""
    text = json.dumps(
        {"data": dict(data), "kind": "ConfigMap", "name": name},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    # As Go writes JSON: what could end a script element is escaped.
    for letter in "&<>\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH].translate(_HASH_LETTERS)
