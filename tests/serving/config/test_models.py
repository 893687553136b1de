"""models.config: what it says, and what is refused in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.version_policy import All, Latest, Specific
from tfbundle_serving.config.models import ModelConfig, check_models, read_models

ROOT = Path(__file__).parents[3]


def write(folder: Path, *models: str) -> Path:
    """Write a models.config of these models."""
    path = folder / "models.config"
    path.write_text("model_config_list {" + "".join(f"config {{ {model} }}\n" for model in models) + "}")
    return path


def test_our_own_file() -> None:
    """The file in the repository serves the demo's model from the place where the containers have it."""
    assert read_models(ROOT / "serving/models.config") == (ModelConfig(name="digits", base_path="/models/digits"),)


def test_policies_and_labels(tmp_path: Path) -> None:
    """Every policy and label arrives."""
    platform = 'model_platform: "tensorflow"'
    path = write(
        tmp_path,
        f'name: "a" base_path: "/a" {platform} version_labels {{ key: "x" value: 3 }}',
        f'name: "b" base_path: "/b" {platform} model_version_policy {{ all {{}} }}',
        f'name: "c" base_path: "/c" {platform} model_version_policy {{ specific {{ versions: 4 versions: 2 }} }}',
        'name: "d" base_path: "gs://d" model_type: TENSORFLOW model_version_policy { latest { num_versions: 0 } }',
    )
    a, b, c, d = read_models(path)
    assert (a.policy, dict(a.labels)) == (Latest(num_versions=1), {"x": 3})
    assert b.policy == All()
    assert c.policy == Specific(versions=(4, 2))
    assert (d.policy, d.base_path) == (Latest(num_versions=1), "gs://d")


def test_an_empty_file_means_no_models(tmp_path: Path) -> None:
    """TensorFlow Serving starts with an empty file; so does this."""
    (tmp_path / "empty.config").touch()
    assert read_models(tmp_path / "empty.config") == ()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            'name: "m" base_path: "/m"',
            (
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform, model name is m"
            ),
        ),
        ('name: "m" base_path: "/m" model_platform: "torch"', "Model m requests unsupported platform torch"),
        (
            'name: "m" base_path: "m" model_platform: "tensorflow"',
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        (
            'name: "m" base_path: "/m" model_platform: "tensorflow" logging_config {}',
            "No request-logger-creator provided.",
        ),
    ],
)
def test_refused(tmp_path: Path, model: str, text: str) -> None:
    """What TensorFlow Serving refuses is refused in its words."""
    with pytest.raises(InvalidArgument) as caught:
        read_models(write(tmp_path, model))
    assert caught.value.message == text


def test_a_name_twice() -> None:
    """Two models of one name are refused in TensorFlow Serving's words."""
    model = ModelConfig(name="m", base_path="/m")
    with pytest.raises(InvalidArgument, match=r"^Illegal to list model m multiple times in config list$"):
        check_models([model, model])


def test_custom_model_config(tmp_path: Path) -> None:
    """The other kind of config, which aborts TensorFlow Serving, is an error here."""
    path = tmp_path / "models.config"
    path.write_text('custom_model_config { type_url: "x" }')
    with pytest.raises(InvalidArgument, match="custom_model_config is not supported"):
        read_models(path)


def test_policies_choose() -> None:
    """The latest N, all, and the listed ones of those that are there, lowest first."""
    found = [10, 2, 1]
    assert Latest().choose(found) == [10]
    assert Latest(num_versions=0).choose(found) == [10]
    assert Latest(num_versions=2).choose(found) == [2, 10]
    assert All().choose(found) == [1, 2, 10]
    assert Specific(versions=(10, 1, 5)).choose(found) == [1, 10]
    assert Latest().choose([]) == []
