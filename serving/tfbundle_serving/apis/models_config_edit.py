"""Changes of a models.config's text that leave its comments, its order and its layout alone.

    set_label(text, "digits", "stable", 3)
    set_policy(text, "digits", Specific(versions=(2, 3)))

Each reads the text, changes what has to change and gives a text again; applied twice it is applied once. What it means
afterwards is what protobuf's own reader makes of it.

Source: tensorflow_serving/config/model_server_config.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .errors import NotFound
from .models_config import encode_models_config, read_integer
from .text_format import Field, Message, Scalar, find_comments, parse_text, quote, refused
from .version_policy import All, Latest, Specific, VersionPolicy

#: What a model is, before what is said about its versions.
_HEAD = frozenset({"name", "base_path", "model_platform", "model_type"})
_POLICY, _LABELS = "model_version_policy", "version_labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredModel:
    """One model of a models.config, as it is written there.

    Attributes:
        name: The name that requests carry.
        base_path: The folder whose numbered children are versions, as the server sees it.
        platform: Its model_platform; "" where there is none.
        policy: Which versions are served.
        labels: Version label to version.
        others: Names of further fields that are set: model_type, logging_config.
    """

    name: str
    base_path: str
    platform: str
    policy: VersionPolicy
    labels: Mapping[str, int] = field(default_factory=dict)
    others: frozenset[str] = frozenset()


def read_models(text: str) -> tuple[ConfiguredModel, ...]:
    """Read the models of a models.config.

    Raises:
        InvalidArgument: It is none; TensorFlow Serving would refuse the file.
    """
    encode_models_config(text)  # refuses unknown fields and values of the wrong kind
    return tuple(_read_model(each) for each in _configs(parse_text(text)))


def find_model(models: Sequence[ConfiguredModel], name: str, origin: object = "the models.config") -> ConfiguredModel:
    """Find a model by its name.

    Args:
        models: Where to look.
        name: Its name.
        origin: Where they come from, for the message.

    Raises:
        NotFound: There is no such model; the message lists those that there are.
    """
    found = next((model for model in models if model.name == name), None)
    if found is None:
        names = ", ".join(model.name for model in models) or "none"
        raise NotFound(f"{origin} has no model {name}; it has {names}", model=name, attempts=0)
    return found


def set_label(text: str, model: str, label: str, version: int) -> str:
    """Let a version label mean a version.

    Raises:
        NotFound: The text has no such model.
        InvalidArgument: The text is no models.config.
    """
    config = _config(text, model)
    entries = _entries(config, label)
    if not entries:
        line = f"{_LABELS} {{ key: {quote(label)} value: {version} }}"
        return _insert_after(
            text, _last(config, {_LABELS}) or _last(config, {_POLICY, *_HEAD}) or config.fields[-1], line
        )
    # Of several entries with one key the last counts; that they agree is what a reader would expect.
    for _, entry in reversed(entries):
        values = entry.named("value")
        if values:
            scalar = values[-1].values[-1]
            text = text[: scalar.start] + str(version) + text[scalar.end :]
        else:
            text = text[: entry.end - 1].rstrip(" ") + f" value: {version} " + text[entry.end - 1 :]
    return text


def remove_label(text: str, model: str, label: str) -> str:
    """Take a version label away, should it be there.

    Raises:
        NotFound: The text has no such model.
        InvalidArgument: The text is no models.config.
    """
    while entries := _entries(_config(text, model), label):
        holder, entry = entries[-1]
        text = _remove_value(text, holder, entry)
    return text


def set_policy(text: str, model: str, policy: VersionPolicy) -> str:
    """Say which versions of a model are served.

    Raises:
        NotFound: The text has no such model.
        InvalidArgument: The text is no models.config.
    """
    config = _config(text, model)
    present = config.named(_POLICY)
    if _read_policy(present) == policy:
        return text
    if not present:
        anchor = _last(config, _HEAD) or config.fields[0]
        return _insert_after(text, anchor, f"{_POLICY} {{ {_policy_text(policy)} }}")
    holder = present[-1].values[-1]
    assert isinstance(holder, Message)
    if isinstance(policy, Specific) and policy.versions and _versions_of(holder):
        return _set_versions(text, model, policy.versions)
    comments = find_comments(text, holder.start, holder.end)
    inner = _policy_text(policy)
    if comments:
        indent = _indent(text, holder.start)
        lines = "".join(f"\n{indent}  {each}" for each in (*comments, inner))
        return f"{text[: holder.start]}{{{lines}\n{indent}}}{text[holder.end :]}"
    return f"{text[: holder.start]}{{ {inner} }}{text[holder.end :]}"


def _set_versions(text: str, model: str, wanted: Sequence[int]) -> str:
    """Change the numbers of a `specific` policy: those that stay keep their places and comments."""
    for version in wanted:
        if version not in (number for _, _, number in _numbers(text, model)):
            holder, last, _ = _numbers(text, model)[-1]
            if holder.is_list:
                text = f"{text[: last.end]}, {version}{text[last.end :]}"
            else:
                text = _insert_after(text, holder, f"versions: {version}")
    seen: set[int] = set()
    while True:
        seen.clear()
        for holder, value, number in _numbers(text, model):
            if number not in wanted or number in seen:
                text = _remove_value(text, holder, value)
                break
            seen.add(number)
        else:
            return text


def _numbers(text: str, model: str) -> list[tuple[Field, Scalar | Message, int]]:
    holder = _config(text, model).named(_POLICY)[-1].values[-1]
    assert isinstance(holder, Message)
    return _versions_of(holder)


def _versions_of(policy: Message) -> list[tuple[Field, Scalar | Message, int]]:
    """List the numbers of a `specific` policy and where they stand."""
    return [
        (holder, value, read_integer(value.text))
        for specific in policy.named("specific")
        for message in specific.values
        if isinstance(message, Message)
        for holder in message.named("versions")
        for value in holder.values
        if isinstance(value, Scalar)
    ]


def _policy_text(policy: VersionPolicy) -> str:
    if isinstance(policy, All):
        return "all {}"
    if isinstance(policy, Latest):
        return f"latest {{ num_versions: {policy.num_versions} }}"
    return f"specific {{ {''.join(f'versions: {version} ' for version in policy.versions)}}}"


def _configs(document: Message) -> list[Message]:
    lists = [value for each in document.named("model_config_list") for value in each.values]
    configs = [each for found in lists if isinstance(found, Message) for each in found.named("config")]
    return [value for each in configs for value in each.values if isinstance(value, Message)]


def _config(text: str, model: str) -> Message:
    models = read_models(text)
    place = models.index(find_model(models, model))
    return _configs(parse_text(text))[place]


def _read_model(config: Message) -> ConfiguredModel:
    for each in config.fields:
        if each.name != _LABELS and (len(each.values) != 1 or len(config.named(each.name)) != 1):
            raise refused(f"line {each.line}: {each.name} is given more than once")
    labels = {}
    for each in config.named(_LABELS):
        for entry in each.values:
            if isinstance(entry, Message):
                labels[_string(entry, "key")] = _number(entry, "value")
    known = {*_HEAD - {"model_type"}, _POLICY, _LABELS}
    return ConfiguredModel(
        name=_string(config, "name"),
        base_path=_string(config, "base_path"),
        platform=_string(config, "model_platform"),
        policy=_read_policy(config.named(_POLICY)),
        labels=labels,
        others=frozenset(each.name for each in config.fields) - known,
    )


def _read_policy(fields: Sequence[Field]) -> VersionPolicy:
    policies = [value for each in fields for value in each.values if isinstance(value, Message)]
    if not policies:
        return Latest()
    (policy,) = policies
    if len(policy.fields) > 1:
        names = " and ".join(each.name for each in policy.fields)
        raise refused(f"line {policy.fields[1].line}: a {_POLICY} is one of latest, all and specific; got {names}")
    if policy.named("all"):
        return All()
    if policy.named("specific"):
        return Specific(versions=tuple(number for _, _, number in _versions_of(policy)))
    latest = [value for each in policy.named("latest") for value in each.values if isinstance(value, Message)]
    return Latest(num_versions=(_number(latest[0], "num_versions") if latest else 0) or 1)


def _string(message: Message, name: str) -> str:
    values = [value for each in message.named(name) for value in each.values]
    return values[-1].text if values and isinstance(values[-1], Scalar) else ""


def _number(message: Message, name: str) -> int:
    return read_integer(_string(message, name) or "0")


def _entries(config: Message, label: str) -> list[tuple[Field, Message]]:
    """List the entries of a label, and the fields that they stand in."""
    return [
        (holder, entry)
        for holder in config.named(_LABELS)
        for entry in holder.values
        if isinstance(entry, Message) and _string(entry, "key") == label
    ]


def _last(config: Message, names: set[str] | frozenset[str]) -> Field | None:
    return max((each for each in config.fields if each.name in names), key=lambda each: each.start, default=None)


def _insert_after(text: str, anchor: Field, line: str) -> str:
    """Insert a field after another: on a line of its own where that one has one, else beside it."""
    begin, end = _line(text, anchor.start)[0], _line(text, anchor.end)[1]
    rest = text[anchor.end : end].strip()
    if text[begin : anchor.start].strip() or (rest and not rest.startswith("#")):
        return f"{text[: anchor.end]} {line}{text[anchor.end :]}"
    body = text[:end].rstrip("\r")
    ending = "\r\n" if len(body) < end else "\n"
    return f"{body}{ending}{text[begin : anchor.start]}{line}{text[len(body) :]}"


def _remove_value(text: str, holder: Field, value: Scalar | Message) -> str:
    """Take a value away, with its field where it is the only one; comments stay where they were."""
    if not holder.is_list or len(holder.values) == 1:
        return _remove(text, holder.start, holder.end)
    place = holder.values.index(value)
    if place:  # with the comma before it
        before = holder.values[place - 1].end
        comments = find_comments(text, before, value.end)
        kept = "".join(f" {each}\n" for each in comments)
        return text[:before] + kept + text[value.end :]
    after = holder.values[1].start
    kept = "".join(f"{each}\n" for each in find_comments(text, value.start, after))
    return text[: value.start] + kept + text[after:]


def _remove(text: str, start: int, end: int) -> str:
    comments = find_comments(text, start, end)
    begin, line_end = _line(text, start)[0], _line(text, end)[1]
    indent, rest = text[begin:start], text[end:line_end].strip()
    if comments:
        # A comment goes to the end of its line, so what follows must begin another.
        kept = f"\n{' ' * len(indent) if not indent.strip() else ''}".join(comments)
        return text[:start] + kept + ("" if not rest else "\n") + text[end:].removeprefix(" ")
    if indent.strip() or rest:
        return text[:start] + text[end:].removeprefix(" ")
    return text[:begin] + text[line_end + 1 :]


def _line(text: str, at: int) -> tuple[int, int]:
    """Give where the line of a place begins, and where its line break is."""
    end = text.find("\n", at)
    return text.rfind("\n", 0, at) + 1, len(text) if end < 0 else end


def _indent(text: str, at: int) -> str:
    line = text[_line(text, at)[0] : at]
    return line[: len(line) - len(line.lstrip())]
