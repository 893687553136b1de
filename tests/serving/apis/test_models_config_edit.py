"""Changes of a models.config: the message that protobuf's own reader finds, and every comment where it was."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2

from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.apis.models_config import encode_models_config
from tfbundle_serving.apis.models_config_edit import (
    ConfiguredModel,
    read_models,
    remove_label,
    set_label,
    set_policy,
)
from tfbundle_serving.apis.version_policy import All, Latest, Specific, VersionPolicy

TEXT = """\
# The models of the shop.
model_config_list {
  config {
    name: "digits"  # the first
    base_path: "/models/digits"
    model_platform: "tensorflow"
    model_version_policy {
      specific {
        versions: 1  # the old one
        versions: 2
      }
    }
    version_labels { key: "stable" value: 1 }  # what people get
  }
  config: < name: 'fashion', base_path: "/models/fashion"; model_platform: "tensorflow" >
}
"""


def _parse(text: str) -> Any:
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def _expected(text: str, model: str, change: Any) -> Any:
    message = _parse(text)
    for config in message.model_config_list.config:
        if config.name == model:
            change(config)
            break
    return message


def _put_policy(config: Any, policy: VersionPolicy) -> None:
    config.ClearField("model_version_policy")
    if isinstance(policy, All):
        config.model_version_policy.all.SetInParent()
    elif isinstance(policy, Latest):
        config.model_version_policy.latest.num_versions = policy.num_versions
    else:
        config.model_version_policy.specific.versions.extend(policy.versions)
        config.model_version_policy.specific.SetInParent()


def test_what_is_read() -> None:
    """A models.config is read as frozen values."""
    assert read_models(TEXT) == (
        ConfiguredModel(
            name="digits",
            base_path="/models/digits",
            platform="tensorflow",
            policy=Specific(versions=(1, 2)),
            labels={"stable": 1},
        ),
        ConfiguredModel(name="fashion", base_path="/models/fashion", platform="tensorflow", policy=Latest()),
    )


@pytest.mark.parametrize(
    ("edit", "before", "after"),
    [
        (lambda text: set_label(text, "digits", "stable", 2), "value: 1 }  # what", "value: 2 }  # what"),
        (
            lambda text: set_label(text, "digits", "canary", 2),
            "# what people get\n",
            '# what people get\n    version_labels { key: "canary" value: 2 }\n',
        ),
        (
            lambda text: set_label(text, "fashion", "stable", 7),
            '"tensorflow" >',
            '"tensorflow" version_labels { key: "stable" value: 7 } >',
        ),
        (
            lambda text: remove_label(text, "digits", "stable"),
            'version_labels { key: "stable" value: 1 }  # what',
            "# what",
        ),
        (
            lambda text: set_policy(text, "digits", Specific(versions=(2, 3))),
            "versions: 1  # the old one\n        versions: 2\n",
            "# the old one\n        versions: 2\n        versions: 3\n",
        ),
        (
            lambda text: set_policy(text, "fashion", All()),
            '"tensorflow" >',
            '"tensorflow" model_version_policy { all {} } >',
        ),
    ],
)
def test_only_what_has_to_change_changes(edit: Any, before: str, after: str) -> None:
    """The change is where a person would have made it, in the layout that was there."""
    edited = edit(TEXT)
    assert re.sub(r" +", " ", edited) == re.sub(r" +", " ", TEXT.replace(before, after))


def test_nothing_to_change() -> None:
    """A text that says it already stays as it is, byte for byte."""
    assert set_label(TEXT, "digits", "stable", 1) == TEXT
    assert set_policy(TEXT, "digits", Specific(versions=(1, 2))) == TEXT
    assert remove_label(TEXT, "digits", "canary") == TEXT


def test_line_ends_stay() -> None:
    """A file with Windows' line ends keeps them, in the new line as well."""
    edited = set_label(TEXT.replace("\n", "\r\n"), "digits", "canary", 2)
    assert edited == set_label(TEXT, "digits", "canary", 2).replace("\n", "\r\n")


def test_what_is_refused() -> None:
    """A model that is not there, fields twice, two policies, and what is no models.config."""
    with pytest.raises(NotFound, match="has no model shoes; it has digits, fashion"):
        set_label(TEXT, "shoes", "stable", 1)
    two = "model_config_list { config { name: 'a' model_version_policy { all {} latest {} } } }"
    with pytest.raises(InvalidArgument, match="one of latest, all and specific; got all and latest"):
        read_models(two)
    with pytest.raises(InvalidArgument, match="has no field 'lable'"):
        read_models("model_config_list { config { lable: 1 } }")
    with pytest.raises(InvalidArgument):
        read_models("model_config_list { config { name: 'a' name: 'b' } }")
    with pytest.raises(InvalidArgument):
        read_models("model_config_list {} model_config_list {}")


_NAMES = ("m", "di\\147its", "näme # no comment", 'quo"ted')
_LABELS = ("stable", "canary", "a}b")


@st.composite
def _texts(draw: st.DrawFn) -> str:
    """Write a models.config as badly laid out as protobuf allows, with comments at every gap."""
    number = iter(range(10_000))

    def gap() -> str:
        kind = draw(st.integers(0, 5))
        return {0: f" #c{next(number)}x\n  ", 1: "\n    ", 2: f"\n  # c{next(number)}x {{\n  "}.get(kind, " ")

    def message(name: str, fields: list[str]) -> str:
        opening, closing = draw(st.sampled_from([("{", "}"), ("<", ">")]))
        inner = "".join(gap() + each + draw(st.sampled_from(["", "", ",", ";"])) for each in fields)
        return f"{name}{draw(st.sampled_from(['', ':', ' ', ': ']))}{opening}{inner}{gap()}{closing}"

    def text(value: str) -> str:
        quote = "'" if '"' in value else draw(st.sampled_from(["'", '"']))
        return f"{quote}{value}{quote}"

    def entry(name: str, key: str, value: int) -> str:
        fields = draw(st.permutations([f"key:{gap()}{text(key)}", f"value:{gap()}{value}"]))
        return message(name, list(fields) if value else [each for each in fields if each.startswith("key")])

    def labels() -> list[str]:
        pairs = draw(st.lists(st.tuples(st.sampled_from(_LABELS), st.integers(0, 4)), max_size=4))
        if pairs and draw(st.sampled_from([True, False])):
            return [f"version_labels: [{gap()}{f',{gap()}'.join(entry('', *each).lstrip(': ') for each in pairs)}]"]
        return [entry("version_labels", *each) for each in pairs]

    def policy() -> list[str]:
        numbers = draw(st.lists(st.integers(1, 5), max_size=4))
        pieces = [f"versions:{gap()}{each}" for each in numbers]
        if numbers and draw(st.sampled_from([True, False])):
            joined = f"{gap()},{gap()}".join(map(str, numbers))
            pieces = [f"versions: [{gap()}{joined}{gap()}]"]
        choice = draw(
            st.sampled_from(["", "all {}", "latest { num_versions: 2 }", "latest<>", message("specific", pieces)])
        )
        return [message("model_version_policy", [choice])] if choice else []

    configs = []
    for name in draw(st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3, unique=True)):
        fields = [f"name: {text(name)}", "base_path: '/b'", *policy(), *labels()]
        configs.append(message("config", draw(st.permutations(fields))))
    return gap() + message("model_config_list", configs) + gap()


def _normal(message: Any) -> Any:
    """Write down what counts: which numbers, not in which order, and that the default policy is latest 1."""
    for config in message.model_config_list.config:
        policy = config.model_version_policy
        if policy.HasField("specific"):
            policy.specific.versions[:] = sorted(set(policy.specific.versions))
        elif not policy.HasField("all"):
            policy.latest.num_versions = policy.latest.num_versions or 1
    return message


def _comments(text: str) -> list[str]:
    return sorted(re.findall(r"# ?c[0-9]+x", text))


@given(
    _texts(),
    st.sampled_from(_LABELS),
    st.integers(1, 9),
    st.one_of(
        st.just(All()),
        st.builds(Latest, num_versions=st.integers(1, 3)),
        st.builds(
            lambda numbers: Specific(versions=tuple(numbers)), st.lists(st.integers(1, 6), min_size=1, unique=True)
        ),
    ),
)
def test_edits_mean_what_they_should(text: str, label: str, version: int, policy: VersionPolicy) -> None:
    """For any text: the message is the expected one, all comments are still comments, and twice is once."""
    message = _parse(text)
    assert encode_models_config(text) == encode_models_config(text_format.MessageToString(message)) or (
        model_server_config_pb2.ModelServerConfig.FromString(encode_models_config(text)) == message
    )
    name = message.model_config_list.config[0].name

    def check(edit: Any, change: Any) -> None:
        edited = edit(text)
        found, expected = _parse(edited), _expected(text, name, change)
        assert _normal(found) == _normal(expected)
        assert _comments(edited) == _comments(text)
        assert edit(edited) == edited

    check(lambda text: set_label(text, name, label, version), lambda c: c.version_labels.update({label: version}))
    check(lambda text: remove_label(text, name, label), lambda c: c.version_labels.pop(label, None))
    check(lambda text: set_policy(text, name, policy), lambda c: _put_policy(c, policy))
