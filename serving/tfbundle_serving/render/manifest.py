"""Kubernetes documents with the comments that explain them: read from files, written as one text.

A YAML reader drops comments. The ones that stand in front of a document are kept, which is where docker/kubernetes/
explains itself; those inside of one are lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

#: A parsed YAML mapping.
Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One document.

    Attributes:
        body: What Kubernetes reads.
        comment: What a person reads, without the number signs; "" where there is nothing to say.
    """

    body: Document
    comment: str = ""

    @property
    def kind(self) -> str:
        """Its kind, such as Deployment."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return str(self.body["metadata"]["name"])

    def with_comment(self, *lines: str) -> Manifest:
        """Give the same with more to read."""
        return replace(self, comment="\n".join(part for part in (self.comment, *lines) if part))


def read_manifests(path: Path) -> list[Manifest]:
    """Read a file of documents that are separated by lines of three dashes."""
    parts: list[list[str]] = [[]]
    for line in path.read_text(encoding="utf-8").splitlines():
        if line == "---":
            parts.append([])
        else:
            parts[-1].append(line)
    return [
        Manifest(body=body, comment=_leading_comment(part))
        for part in parts
        if (body := yaml.safe_load("\n".join(part))) is not None
    ]


def _leading_comment(lines: Sequence[str]) -> str:
    taken = []
    for line in lines:
        if not line.startswith("#"):
            break
        taken.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(taken)


def write_manifests(manifests: Iterable[Manifest]) -> str:
    """Write documents as one YAML text, each under its comment."""
    return "---\n".join(write_manifest(each) for each in manifests)


def write_manifest(manifest: Manifest) -> str:
    """Write one document under its comment."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in manifest.comment.splitlines())
    return comment + write_yaml(manifest.body)


def write_json(manifests: Sequence[Manifest]) -> str:
    """Write documents as one JSON list, which kubectl takes as well."""
    bodies = [each.body for each in manifests]
    # A Compose file is one document and no kind of Kubernetes's.
    listed = {"apiVersion": "v1", "kind": "List", "items": bodies} if "kind" in bodies[0] else bodies[0]
    return json.dumps(listed, indent=2, ensure_ascii=False) + "\n"


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes texts of several lines as blocks, never refers back to what it wrote before, indents lists."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:  # noqa: ARG002
        return super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def write_yaml(body: Document) -> str:
    """Write one mapping as YAML, in the order that it has."""
    text: str = yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text
