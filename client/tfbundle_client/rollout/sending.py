"""A list of models on its way to every server; what a server would refuse about labels of dead versions is left out.

Without --allow_version_labels_for_unavailable_models a server refuses the whole list if it names a label whose version
is not AVAILABLE there. Such a label answers nobody, so the list is given once more without it: a version whose folder
is gone must not keep a label from going back to one that works. The file keeps what it says.

Source: tensorflow_serving/model_servers/server_core.cc (UpdateModelVersionLabelMap).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tfbundle_serving.apis.errors import BundleError, FailedPrecondition
from tfbundle_serving.apis.models_config_edit import read_models, remove_label

from .fleet import Asked, Fleet
from .server import Server
from .talk import Say, quietly


def send_list(
    fleet: Fleet,
    config: str | Mapping[str, str],
    *,
    timeout_s: float,
    needed: tuple[str, str] | None = None,
    say: Say = quietly,
) -> Asked[None]:
    """Give every server a list of models; it takes the place of the one before.

    Args:
        fleet: The servers.
        config: The text of a models.config, or address to the text that this server gets.
        timeout_s: Seconds.
        needed: Model and label that the list is about, if they are: a server that cannot take that one has to say so.
        say: Is told what was left out where.
    """
    texts = dict.fromkeys((each.url for each in fleet.servers), config) if isinstance(config, str) else dict(config)
    asked = fleet.reload(texts, timeout_s=timeout_s)
    again: dict[str, str] = {}
    said: dict[str, str] = {}
    for server in fleet.servers:
        if not isinstance(asked.failures.get(server.url), FailedPrecondition):
            continue
        try:
            available = _available(server, texts[server.url])
        except BundleError:
            continue  # what it said first is the reason
        text, left_out = without_dead_labels(texts[server.url], available, needed)
        if left_out:
            again[server.url], said[server.url] = text, ", ".join(left_out)
    if not again:
        return asked
    for url, names in sorted(said.items()):
        say(f"{url} takes no label whose version is not AVAILABLE there; left out there: {names}")
    second = Fleet([each for each in fleet.servers if each.url in again]).reload(again, timeout_s=timeout_s)
    failures = {url: error for url, error in asked.failures.items() if url not in again}
    return Asked({**asked.answers, **second.answers}, {**failures, **second.failures})


def without_dead_labels(
    text: str, available: Mapping[str, Collection[int]], needed: tuple[str, str] | None = None
) -> tuple[str, tuple[str, ...]]:
    """Take away the labels whose version does not answer.

    Args:
        text: The models.config.
        available: Model name to the versions that are AVAILABLE.
        needed: Model and label that stay in any case.

    Returns:
        The text, and what was taken away in the words of a message.
    """
    left_out = []
    for model in read_models(text):
        for label, version in model.labels.items():
            if version not in available.get(model.name, ()) and (model.name, label) != needed:
                text = remove_label(text, model.name, label)
                left_out.append(f"label {label} of {model.name} (version {version})")
    return text, tuple(left_out)


def _available(server: Server, text: str) -> dict[str, set[int]]:
    return {
        model.name: {version for version, status in server.states(model.name).items() if status.is_available}
        for model in read_models(text)
        if model.labels
    }
