"""What a caller of `tfbundle render` decides, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from tfbundle_serving.apis.errors import InvalidArgument

#: A name in a cluster: RFC 1123's label. Services end up in DNS.
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
#: The names that are made from --name, the longest of them, must be labels, too.
_LONGEST_SUFFIX = "-config-0123456789"
_REMOTE = ("s3", "gs", "gcs")


class Overlay(Enum):
    """Which server, on what."""

    CPU = "cpu"
    GPU = "gpu"
    EMBEDDED = "embedded"


class Place(Enum):
    """Where the version folders are kept."""

    CLAIM = "pvc"
    HOST = "hostPath"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where Pods have the version folders from.

    Attributes:
        place: What kind of place it is.
        where: The claim's name, the node's folder, or the URL above the models' folders, without a slash at its end.
    """

    place: Place
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderSettings:
    """What is wanted in a cluster.

    Attributes:
        overlay: Which server, on what.
        source: Where the models come from.
        name: Name of the Deployment and of what belongs to it.
        namespace: Where it goes; "" leaves that to kubectl.
        image: The server's image; "" = the overlay's.
        pull_image: The image of the containers that pull versions.
        pulls: Whether Pods copy and verify versions before they serve; always so from a remote place.
        endpoint_url: The S3 server, where it is not Amazon's; "" = it is.
        replicas: Pods at least; None = as the overlay says.
        service_monitor: Whether the Prometheus operator is told.
    """

    overlay: Overlay
    source: ModelSource
    name: str = "tfbundle"
    namespace: str = ""
    image: str = ""
    pull_image: str = "tfbundle:latest"
    pulls: bool = False
    endpoint_url: str = ""
    replicas: int | None = None
    service_monitor: bool = False

    def __post_init__(self) -> None:
        check_name("--name", self.name, room_for=_LONGEST_SUFFIX)
        if self.namespace:
            check_name("--namespace", self.namespace)
        if self.endpoint_url and urlsplit(self.endpoint_url).scheme not in ("http", "https"):
            raise InvalidArgument(f"--endpoint-url {self.endpoint_url}: expected http://HOST:PORT or https://HOST")


def check_name(what: str, name: str, *, room_for: str = "") -> None:
    """Refuse what Kubernetes would not take as a name.

    Raises:
        InvalidArgument: It is no RFC 1123 label, or too long for what is appended to it.
    """
    if not _DNS_LABEL.fullmatch(name) or len(name + room_for) > 63:
        most = 63 - len(room_for)
        raise InvalidArgument(
            f"{what} {name!r} is no name for Kubernetes: lower-case letters, digits and hyphens, "
            f"a letter or digit at both ends, {most} characters at most"
        )


def dns_label(name: str) -> str:
    """Turn a model's name into one that Kubernetes takes: `My_Model` becomes `my-model`.

    Raises:
        InvalidArgument: Nothing of it is left.
    """
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")
    if not label:
        raise InvalidArgument(f"model {name!r} has no letter or digit that could stand in a name for Kubernetes")
    return label


def parse_source(text: str) -> ModelSource:
    """Read --models-from.

    Raises:
        InvalidArgument: It is none of the kinds of place.
    """
    kind, colon, rest = text.partition(":")
    if kind in _REMOTE and rest.startswith("//"):
        bucket = urlsplit(text).netloc
        if not bucket:
            raise InvalidArgument(f"--models-from {text}: expected {kind}://BUCKET/FOLDER")
        return ModelSource(place=Place.REMOTE, where=text.rstrip("/"))
    if kind == Place.CLAIM.value and colon:
        check_name("--models-from pvc:", rest)
        return ModelSource(place=Place.CLAIM, where=rest)
    if kind == Place.HOST.value and colon:
        if not PurePosixPath(rest).is_absolute():
            raise InvalidArgument(f"--models-from {text}: expected hostPath:/AN/ABSOLUTE/FOLDER of the nodes")
        return ModelSource(place=Place.HOST, where=str(PurePosixPath(rest)))
    raise InvalidArgument(
        f"--models-from {text!r}: expected pvc:CLAIM, hostPath:/FOLDER, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
    )
