"""What TensorFlow Serving would refuse, or wait for without end, seen before a list of models reaches it.

A reload replaces the whole list. It is refused as a whole for one wrong model, and hangs without end, with every later
reload behind it, for one new model whose base path is missing or has no versions. All rules are functions that only
compute.

Source: tensorflow_serving/model_servers/server_core.cc (ReloadConfig), model_service_impl.cc;
tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc; tensorflow/serving issues 1519, 1565, 2189.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tfbundle_serving.apis.models_config_edit import ConfiguredModel
from tfbundle_serving.apis.version_policy import Specific

_URI = re.compile(r"[a-zA-Z][0-9a-zA-Z.]*://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is seen of a model's base path from this machine.

    Attributes:
        path: Where it is here; "" where it is not on this machine.
        versions: The versions in it; None where it is missing.
        half: Those of them without a saved_model.pb.
    """

    path: str = ""
    versions: frozenset[int] | None = None
    half: frozenset[int] = frozenset()


def check_list(models: Sequence[ConfiguredModel]) -> Iterator[str]:
    """Name what a server would refuse about the list itself."""
    for name, times in Counter(model.name for model in models).items():
        if times > 1:
            yield f"model {name} is listed {times} times, and may be once"
    for model in models:
        if not (model.base_path.startswith("/") or _URI.match(model.base_path)):
            yield f"model {model.name} has the base_path {model.base_path!r}, expected an absolute path or a URI"
        if not model.platform and "model_type" not in model.others:
            yield f'model {model.name} has no model_platform, expected model_platform: "tensorflow"'
        elif model.platform and "model_type" in model.others:
            yield f"model {model.name} has both a model_platform and a model_type; expected model_platform alone"
        elif model.platform not in ("", "tensorflow"):
            yield f'model {model.name} has the model_platform {model.platform!r}, expected "tensorflow"'
        if "logging_config" in model.others:
            yield f"model {model.name} has a logging_config, which no server without a log collector takes: remove it"


def check_label(label: str) -> Iterator[str]:
    """Name what is wrong with the name of a label."""
    if not label or not label.isprintable():
        yield f"version label {label!r}: expected printable characters, at least one"


def check_servers(unknown_at: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Name servers that know none of the models: the list would take away what they serve instead.

    Args:
        unknown_at: Model name to the servers that do not know it.
    """
    strangers = set[str].intersection(*map(set, unknown_at.values())) if unknown_at else set[str]()
    for url in sorted(strangers):
        yield (
            f"{url} serves none of its models ({', '.join(unknown_at)}), and this list would take the place of what "
            "it serves instead: is the address right? A server that serves nothing yet is started with this file "
            "(--model_config_file)"
        )


def check_unloaded(models: Sequence[ConfiguredModel], served: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Name what servers have and the list does not: a reload would unload it.

    Args:
        models: The models of the list.
        served: Server to its models, where it tells.
    """
    ours = {model.name for model in models}
    for url, names in sorted(served.items()):
        others = sorted(set(names) - ours)
        if others:
            yield (
                f"{url} serves {', '.join(others)}, too, which the file does not list, so that the reload would unload "
                "it: is it the file that the server reads (--config)? --unload-others goes on"
            )


def check_base_paths(
    models: Sequence[ConfiguredModel], seen: Mapping[str, Seen], unknown_at: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Name models for which a reload would hang, or which would keep all others from changing.

    Args:
        models: The models.
        seen: Model name to what is seen of its base path.
        unknown_at: Model name to the servers that do not know it yet.
    """
    for model in models:
        there = seen[model.name]
        if not there.path:
            continue
        news = ", ".join(unknown_at.get(model.name, ()))
        if there.versions is None:
            what = f"the reload of {news} would never end" if news else "no model of the server would change any more"
            yield f"the base path of model {model.name}, {there.path}, is missing: {what}"
        elif not there.versions and news:
            yield f"model {model.name} is new to {news} and has no versions in {there.path}: the reload would never end"


def check_listed(
    models: Sequence[ConfiguredModel],
    seen: Mapping[str, Seen],
    unknown_at: Mapping[str, Sequence[str]],
    served_at: Mapping[str, Sequence[str]],
    loaded: tuple[str, int] | None = None,
) -> Iterator[str]:
    """Name models whose policy lists none but versions that are missing: a new one hangs, another one is unloaded.

    Args:
        models: The models.
        seen: Model name to what is seen of its base path.
        unknown_at: Model name to the servers that do not know it yet.
        served_at: Model name to the servers that have versions of it.
        loaded: Model and version that are to be loaded besides what the list says.
    """
    for model in models:
        there = seen[model.name]
        if not isinstance(model.policy, Specific) or not there.path or not there.versions:
            continue
        listed = {*model.policy.versions, *([loaded[1]] if loaded is not None and loaded[0] == model.name else [])}
        if not there.versions.isdisjoint(listed):
            continue
        what = f"version {', '.join(map(str, sorted(listed)))} of model {model.name} is all that is listed of it"
        missing = f"{what}, and is not in {there.path}"
        if news := ", ".join(unknown_at.get(model.name, ())):
            yield f"{missing}: the model is new to {news}, whose reload would never end"
        elif served := ", ".join(served_at.get(model.name, ())):
            yield f"{missing}: the reload would unload what {served} serves of it"


def check_version(model: ConfiguredModel, version: int, seen: Seen) -> Iterator[str]:
    """Name what is wrong with the folder of the version that is to be loaded."""
    if version < 0:
        yield f"version {version} of model {model.name}: expected a number from 0"
    if not seen.path or seen.versions is None:
        return
    if version not in seen.versions:
        there = ", ".join(map(str, sorted(seen.versions))) or "none"
        yield f"model {model.name} has no version {version} in {seen.path}; it has {there}"
    elif version in seen.half:
        yield f"version {version} of model {model.name} has no saved_model.pb in {seen.path}: it is half a version"


def remarks(
    models: Sequence[ConfiguredModel],
    seen: Mapping[str, Seen],
    moved: tuple[str, str],
    unknown_at: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Name what is worth a line and stops nothing.

    Args:
        models: The models.
        seen: Model name to what is seen of its base path.
        moved: The model and the label that is to move, wherever it is now.
        unknown_at: Model name to the servers that do not know it yet.
    """
    for model in models:
        there = seen[model.name]
        gone = {} if there.versions is None else {k: v for k, v in model.labels.items() if v not in there.versions}
        for label, version in gone.items():
            if (model.name, label) == moved:
                continue
            yield f"label {label} of model {model.name} means version {version}, which is not in {there.path}"
        if model.name == moved[0]:
            continue
        if not there.path and (news := ", ".join(unknown_at.get(model.name, ()))):
            yield (
                f"model {model.name} is new to {news}, and base path {model.base_path} is not on this machine: if "
                "there are no versions in it, the reload never ends"
            )
        if there.versions is None:
            continue
        # A server checks labels before it unloads what the list does not ask for, and does not look again.
        idle = there.versions.difference(model.policy.choose(there.versions))
        for label, version in model.labels.items():
            if version in idle:
                yield (
                    f"label {label} of model {model.name} means version {version}, which the list does not load: "
                    "servers unload it, and the label then answers nobody"
                )
