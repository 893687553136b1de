"""A list of models on its way to every server; what a server would refuse about labels of dead versions is changed.

A server refuses the whole list if a label in it would leave for a version that is not AVAILABLE there, and without
--allow_version_labels_for_unavailable_models if any label names one. The list is given once more without that: a label
that means a version which answers keeps it, and one that answers nobody is left out, since a version whose folder is
gone must not keep a label from going back to one that works. The file keeps what it says.

Source: tensorflow_serving/model_servers/server_core.cc (UpdateModelVersionLabelMap).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tfbundle_serving.apis.errors import BundleError, FailedPrecondition
from tfbundle_serving.apis.models_config_edit import read_models, remove_label

from .fleet import Asked, Fleet
from .plan import as_labelled
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
        say: Is told what was changed where.
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
            meant = _meant(server, texts[server.url])
        except BundleError:
            continue  # what it said first is the reason
        text, changed = without_dead_labels(texts[server.url], available, meant, needed)
        if changed:
            again[server.url], said[server.url] = text, "; ".join(changed)
    if not again:
        return asked
    for url, names in sorted(said.items()):
        say(f"{url} takes no label whose version is not AVAILABLE there: {names}")
    second = Fleet([each for each in fleet.servers if each.url in again]).reload(again, timeout_s=timeout_s)
    failures = {url: error for url, error in asked.failures.items() if url not in again}
    return Asked({**asked.answers, **second.answers}, {**failures, **second.failures})


def without_dead_labels(
    text: str,
    available: Mapping[str, Collection[int]],
    meant: Mapping[str, Mapping[str, int]],
    needed: tuple[str, str] | None = None,
) -> tuple[str, tuple[str, ...]]:
    """Leave labels where they are whose new version does not answer, and take away those that answer nobody at all.

    Args:
        text: The models.config.
        available: Model name to the versions that are AVAILABLE.
        meant: Model name to label to the version that it means at the server, where that one answers.
        needed: Model and label that stay as they are in any case.

    Returns:
        The text, and what was changed in the words of a message.
    """
    changed = []
    for model in read_models(text):
        for label, version in model.labels.items():
            if version in available.get(model.name, ()) or (model.name, label) == needed:
                continue
            what = f"label {label} of {model.name} (version {version})"
            now = meant.get(model.name, {}).get(label)
            if now is None:
                text = remove_label(text, model.name, label)
                changed.append(f"{what} is left out there")
            else:
                text = as_labelled(text, model.name, {label: now})
                changed.append(f"{what} stays at version {now} there")
    return text, tuple(changed)


def _available(server: Server, text: str) -> dict[str, set[int]]:
    return {
        model.name: {version for version, status in server.states(model.name).items() if status.is_available}
        for model in read_models(text)
        if model.labels
    }


def _meant(server: Server, text: str) -> dict[str, dict[str, int]]:
    return {model.name: server.labels(model.name, model.labels) for model in read_models(text) if model.labels}
