"""One service of docker/compose.yaml as a file that stands alone, for the models of one models.config. Only computes.

Variables for ports, limits and the like stay variables with their defaults; folders become absolute paths; the health
check is written into the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument

from .manifest import Document, Manifest
from .memory import Memory
from .settings import Overlay

#: The service of compose.yaml for each overlay.
SERVICES: Mapping[Overlay, str] = {Overlay.CPU: "serving", Overlay.GPU: "gpu", Overlay.EMBEDDED: "embedded"}

#: What only a clone of the repository can use, or what chooses among services.
_LEFT_OUT = ("profiles", "build")
#: Beside models.config: whether and where the server shows metrics.
MONITORING = "monitoring.config"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeSettings:
    """What the file is to serve.

    Attributes:
        overlay: Which server, on what.
        project: Name of the Compose project.
        config: Absolute path of the models.config on this machine.
        models_dir: Absolute path of what is mounted at `root`.
        root: The folder that all base paths have in common.
        image: The server's image; "" = the template's.
        memory: What the container may take; None = what the template says.
        shows_metrics: Whether a monitoring.config lies beside the models.config.
    """

    overlay: Overlay
    project: str
    config: Path
    models_dir: Path
    root: str
    image: str
    memory: Memory | None
    shows_metrics: bool


def fill(template: Document, health_check: str, settings: ComposeSettings) -> Manifest:
    """Make the file.

    Args:
        template: docker/compose.yaml, parsed.
        health_check: The text of docker/healthcheck.sh.
        settings: What to serve.

    Raises:
        InvalidArgument: A path cannot stand in a Compose file.
    """
    name = SERVICES[settings.overlay]
    service = {key: value for key, value in template["services"][name].items() if key not in _LEFT_OUT}
    service["command"] = _command(service["command"], settings)
    # A volume that Docker keeps, such as the one for --record, needs nothing of this machine.
    kept = [each for each in service["volumes"] if isinstance(each, str) and not each.startswith((".", "/", "$"))]
    service["volumes"] = [
        _mount(settings.models_dir, settings.root),
        # The folder and not the file, which `tfbundle promote` replaces.
        _mount(settings.config.parent, "/config"),
        *kept,
    ]
    service["environment"] = {"MODEL_CONFIG_FILE": f"/config/{settings.config.name}"}
    service["healthcheck"] = {
        **service["healthcheck"],
        "test": ["CMD", "bash", "-c", _without_variables(health_check)],
    }
    if settings.image:
        service["image"] = settings.image
    if settings.memory:
        service["mem_limit"] = f"{settings.memory.mib}m"
    comment = f"docker compose -f THIS up serves the models of {settings.config}"
    why = f"\n{settings.memory.why}" if settings.memory else ""
    body = {"name": settings.project, "services": {name: service}}
    if kept:
        body["volumes"] = {each.partition(":")[0]: None for each in kept}
    return Manifest(body=body, comment=comment + why)


def _command(command: str | list[str], settings: ComposeSettings) -> str | list[str]:
    words = command.split() if isinstance(command, str) else command
    kept: list[str] = []
    for word in words:
        if word.startswith("--model_config_file="):
            kept.append(f"--model_config_file=/config/{settings.config.name}")
        elif settings.shows_metrics or not word.startswith("--monitoring_config_file="):
            kept.append(word)
    return " ".join(kept) if isinstance(command, str) else kept


def _mount(folder: Path, target: str) -> dict[str, Any]:
    """Mount a folder that must exist: one that Docker made would be empty and root's."""
    if "$" in str(folder) or not str(folder).isprintable():
        raise InvalidArgument(f"{str(folder)!r} has letters that cannot stand in a Compose file; use another folder")
    return {
        "type": "bind",
        "source": str(folder),
        "target": target,
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def _without_variables(script: str) -> str:
    """Keep Compose from filling in what looks like its variables."""
    return script.replace("$", "$$")
