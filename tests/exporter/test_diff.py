"""tfbundle diff: graph, layers, signatures, weights; what breaks a client and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.version_folders import KERNEL, write_version
from tests.exporter.zoo import nested, sequential
from tfbundle_exporter.reading.cli import main
from tfbundle_exporter.reading.difference import diff
from tfbundle_exporter.reading.stored_weights import StoredWeight
from tfbundle_exporter.reading.weight_changes import compare_weights, measure, pair_names
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signature_changes import compare_signatures
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, Signature, TensorSpec

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2 are the same, 3 has other weights, 4 another signature and shape."""
    base = tmp_path_factory.mktemp("models") / "m"
    other = KERNEL.copy()
    other[1, 1] += 0.25
    write_version(base, 1)
    write_version(base, 2, told={"tag": "again"})
    write_version(base, 3, kernel=other)
    write_version(base, 4, kernel=np.ones((2, 2), np.float32), columns=None, inputs=("x",), outputs=("z",), told={})
    return base


def test_the_same_model_twice(base: Path, capsys: Captured) -> None:
    """Two exports of one model are the same though their files differ; the exit code is 0, also by tag."""
    assert main(["diff", str(base / "1"), str(base / "again"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["same"], report["graph"], report["weights"]["same"]) == (True, "same", 1)
    assert main(["diff", str(base / "1"), str(base / "1")]) == 0
    assert "the same bytes" in capsys.readouterr().out


def test_same_graph_new_weights(base: Path, capsys: Captured) -> None:
    """New weights alone leave the graph the same; the weight is named with how far it moved."""
    assert main(["diff", str(base / "1"), str(base / "3")]) == 1
    shown = capsys.readouterr().out
    assert "graph: the same (fingerprints differ in: checkpoint)" in shown
    assert "BREAKING" not in shown
    found = diff(base / "1", base / "3")
    (change,) = found.weights.changed
    assert change.name == "dense/kernel"
    assert change.max_abs_diff == pytest.approx(0.25)
    assert change.relative == pytest.approx(0.25 / np.linalg.norm(KERNEL))
    assert change.cosine is not None
    assert 0.99 < change.cosine < 1


def test_another_graph_and_signature(base: Path, capsys: Captured) -> None:
    """Another graph is told, a renamed output is marked as breaking, a reshaped weight is shown with both shapes."""
    assert main(["diff", str(base / "1"), str(base / "4")]) == 1
    shown = capsys.readouterr().out
    assert "different, BREAKING for clients" in shown
    assert "graph: different (fingerprints differ in: graph, " in shown
    assert "the same operations: names or constants differ" in shown
    assert "BREAKING  serving_default: output y was removed" in shown
    assert "  serving_default: output z (float32 (?, 2)) was added" in shown
    assert "dense/kernel (3, 2) -> (2, 2)" in shown


def _signature(
    inputs: dict[str, tuple[int | None, ...] | None], outputs: dict[str, tuple[int | None, ...] | None], **more: Any
) -> dict[str, Signature]:
    def specs(shapes: dict[str, tuple[int | None, ...] | None]) -> dict[str, TensorSpec]:
        return {name: TensorSpec(dtypes.FLOAT, shape, f"{name}:0") for name, shape in shapes.items()}

    return {"s": Signature(specs(inputs), specs(outputs), **more)}


_PLAIN = _signature({"x": (None, 8)}, {"y": (None, 10)})
CHANGES: list[tuple[str, dict[str, Signature], bool]] = [
    ("the signature was removed", {}, True),
    ("input x was removed", _signature({}, {"y": (None, 10)}), True),
    ("output y was removed", _signature({"x": (None, 8)}, {}), True),
    ("was added and is required", _signature({"x": (None, 8), "w": (None,)}, {"y": (None, 10)}), True),
    ("has a default", _signature({"x": (None, 8), "w": (None,)}, {"y": (None, 10)}, defaults={"w": b""}), False),
    ("output z (float32 (?,)) was added", _signature({"x": (None, 8)}, {"y": (None, 10), "z": (None,)}), False),
    ("input x is float32 (?, ?)", _signature({"x": (None, None)}, {"y": (None, 10)}), False),
    ("input x is float32 of any rank", _signature({"x": None}, {"y": (None, 10)}), False),
    ("input x is float32 (1, 8)", _signature({"x": (1, 8)}, {"y": (None, 10)}), True),
    ("input x is float32 (?, 8, 1)", _signature({"x": (None, 8, 1)}, {"y": (None, 10)}), True),
    ("output y is float32 (?, 12)", _signature({"x": (None, 8)}, {"y": (None, 12)}), True),
    ("output y is float32 (?, ?)", _signature({"x": (None, 8)}, {"y": (None, None)}), False),
    ("its method is", _signature({"x": (None, 8)}, {"y": (None, 10)}, method_name=CLASSIFY_METHOD), True),
]


@pytest.mark.parametrize(("what", "new", "is_breaking"), CHANGES, ids=[what for what, *_ in CHANGES])
def test_what_breaks_a_client(what: str, new: dict[str, Signature], is_breaking: bool) -> None:
    """Taking more and giving more breaks nobody; taking less, giving less or something else does."""
    (change,) = compare_signatures(_PLAIN, new)
    assert what in change.what
    assert change.is_breaking is is_breaking


def test_dtypes_and_added_signatures() -> None:
    """Another dtype breaks a client, a further signature does not."""
    other = {"s": Signature({"x": TensorSpec(dtypes.DOUBLE, (None, 8))}, _PLAIN["s"].outputs)}
    assert [change.is_breaking for change in compare_signatures(_PLAIN, other)] == [True]
    assert [change.is_breaking for change in compare_signatures(_PLAIN, _PLAIN | {"t": _PLAIN["s"]})] == [False]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model of each Keras in all its forms, and a changed one."""
    import warnings

    import keras
    import tf_keras

    folder = tmp_path_factory.mktemp("files")
    paths = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, k in (("keras", keras), ("tf_keras", tf_keras)):
            model = nested(k).model
            for suffix in (".keras", ".h5", ".weights.h5"):
                paths[f"{name}{suffix}"] = folder / f"{name}{suffix}"
                (model.save_weights if suffix == ".weights.h5" else model.save)(folder / f"{name}{suffix}")
            bias = model.get_layer("y").bias
            bias.assign(np.asarray(bias) + 1)
            paths[f"{name}-moved.keras"] = folder / f"{name}-moved.keras"
            model.save(folder / f"{name}-moved.keras")
            paths[f"{name}-other.keras"] = folder / f"{name}-other.keras"
            sequential(k).model.save(folder / f"{name}-other.keras")
    return paths


@pytest.mark.parametrize("family", ["keras", "tf_keras"])
def test_forms_of_one_model_are_the_same(files: dict[str, Path], family: str) -> None:
    """.keras, .h5 and weights of one model hold the same, though each names its weights in its own way."""
    for other in (".h5", ".weights.h5"):
        found = diff(files[f"{family}.keras"], files[f"{family}{other}"])
        assert found.is_same, found.to_text()
        assert found.weights.same == 8


@pytest.mark.parametrize("family", ["keras", "tf_keras"])
def test_files_differ_in_weights_and_layers(files: dict[str, Path], family: str) -> None:
    """A moved bias is the one change; another architecture is told layer by layer."""
    found = diff(files[f"{family}.keras"], files[f"{family}-moved.keras"])
    (change,) = found.weights.changed
    assert change.name == "y/bias"
    assert change.max_abs_diff == pytest.approx(1.0)
    assert found.layers == ()
    other = diff(files[f"{family}.keras"], files[f"{family}-other.keras"])
    assert "layer y (Dense) was removed" in other.layers
    assert "layer probabilities (Dense) was added" in other.layers


def test_a_changed_setting_is_named(tmp_path: Path, keras: Any) -> None:
    """A layer of the same name with another setting says the setting and both values."""
    for name, activation in (("a", "relu"), ("b", "tanh")):
        x = keras.Input((2,), name="x")
        keras.Model(x, keras.layers.Dense(2, activation=activation, name="y")(x)).save(tmp_path / f"{name}.keras")
    found = diff(tmp_path / "a.keras", tmp_path / "b.keras")
    assert found.layers == ("layer y: activation is 'tanh', was 'relu'",)


def _weights(**shapes: tuple[int, ...]) -> dict[str, StoredWeight]:
    return {
        name.replace("__", "/"): StoredWeight(shape=shape, dtype="float32", numpy=lambda: np.zeros(1))
        for name, shape in shapes.items()
    }


def test_counters_and_model_names_do_not_matter() -> None:
    """The tenth layer pairs with the tenth whatever counters say, and only where nothing else can be meant."""
    old = _weights(seq__dense_2__kernel=(2, 3), seq__dense_10__kernel=(3, 4), seq__odd__kernel=(1,))
    new = _weights(dense__kernel=(2, 3), dense_1__kernel=(3, 4), strange__bias=(1,))
    pairs, removed, added = pair_names(old, new)
    assert pairs == [("seq/dense_2/kernel", "dense/kernel"), ("seq/dense_10/kernel", "dense_1/kernel")]
    assert (removed, added) == (["seq/odd/kernel"], ["strange/bias"])
    old, new = _weights(bi__back__cell__bias=(3,)), _weights(back__cell__bias=(3,), cell__bias=(3,))
    assert pair_names(old, new)[0] == [("bi/back/cell/bias", "back/cell/bias")]
    assert pair_names(new, old)[0] == [("back/cell/bias", "bi/back/cell/bias")]


def test_figures_that_do_not_exist() -> None:
    """NaN, and lengths of zero, give no figure instead of a wrong one."""
    zero, one, nan = (np.full(3, value, np.float32) for value in (0.0, 1.0, np.nan))
    assert measure(zero, one) == (1.0, None, None)
    assert measure(one, nan) == (None, None, None)
    assert measure(one, -one) == pytest.approx((2.0, 2.0, -1.0))


def test_what_cannot_be_compared(tmp_path: Path, base: Path) -> None:
    """A damaged side is an error that names it, not a difference."""
    broken = write_version(tmp_path / "m", 1)
    (broken / "variables" / "variables.index").write_bytes(b"nonsense")
    with pytest.raises(ExportError, match=r"m/1 cannot be compared: .*variables\.index"):
        diff(base / "1", broken)


def test_what_cannot_be_compared_has_an_exit_code_of_its_own(base: Path, capsys: Captured) -> None:
    """A script can tell "different" (1) from "could not compare" (2)."""
    from tfbundle.cli import main as tfbundle

    assert tfbundle(["diff", str(base / "1"), str(base / "99")]) == 2
    assert "has no version of the number 99; it has 1, 2 (tag again), 3, 4" in capsys.readouterr().err


def test_equal_values_under_other_names_are_all_matched() -> None:
    """Weights of one content, such as fresh biases, each find a partner of that content."""
    old, new = (
        {
            f"{name}/bias": StoredWeight(shape=(2,), dtype="float32", numpy=lambda: np.zeros(2, np.float32))
            for name in names
        }
        for names in (("forward_lstm/cell", "backward_lstm/cell"), ("first", "second"))
    )
    found = compare_weights(old, new)
    assert (found.is_same, found.same) == (True, 2)
