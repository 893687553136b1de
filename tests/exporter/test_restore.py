"""--keep-source and tfbundle restore: the source comes back byte for byte, and training goes on from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.version_folders import seal
from tests.exporter.zoo import sequential
from tfbundle_exporter.folder.keep_source import keep_live, keep_source
from tfbundle_exporter.reading.cli import main
from tfbundle_exporter.reading.restoring import restore
from tfbundle_exporter.sources.sniffing import identify
from tfbundle_serving.apis.errors import ExportError

Captured = pytest.CaptureFixture[str]

_X = np.random.default_rng(3).normal(size=(32, 4)).astype(np.float32)
_Y = np.random.default_rng(4).normal(size=(32, 2)).astype(np.float32)


def _folder(tmp_path: Path, number: int = 1) -> Path:
    folder = tmp_path / "m" / str(number)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    return folder


def _trained(k: Any) -> Any:
    """A model after two epochs, with an optimizer that remembers."""
    model = k.Sequential([k.layers.Input((4,)), k.layers.Dense(8, activation="tanh"), k.layers.Dense(2)])
    model.compile(k.optimizers.Adam(0.01), "mse")
    _train(model, 2)
    return model


def _train(model: Any, epochs: int) -> list[float]:
    return list(model.fit(_X, _Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0).history["loss"])


def _weights(model: Any) -> list[NDArray[Any]]:
    return [np.asarray(weight) for weight in model.get_weights()]


@pytest.mark.parametrize(("family", "suffix"), [("keras", ".keras"), ("tf_keras", ".keras"), ("tf_keras", ".h5")])
def test_training_goes_on_as_if_never_interrupted(
    family: str, suffix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The restored file has the source's bytes; its losses are those of the model that trained on."""
    k = request.getfixturevalue(family)
    model = _trained(k)
    source, folder = tmp_path / f"source{suffix}", _folder(tmp_path)
    model.save(source)
    keep_source(identify(source), folder)
    restored = restore(seal(folder), tmp_path / f"back{suffix}")
    assert restored.path.read_bytes() == source.read_bytes()
    again = k.models.load_model(restored.path)
    uninterrupted = _train(model, 3)
    np.testing.assert_allclose(_train(again, 3), uninterrupted, rtol=1e-6)
    fresh = k.models.load_model(source, compile=False)
    fresh.compile(k.optimizers.Adam(0.01), "mse")
    assert not np.allclose(_train(fresh, 3), uninterrupted, rtol=1e-6), "the optimizer's state made no difference"


def test_a_live_model_is_kept_with_its_optimizer(k: Any, tmp_path: Path) -> None:
    """A live model comes back as .keras, and training goes on from it."""
    model = _trained(k)
    folder = _folder(tmp_path)
    keep_live(model, folder)
    restored = restore(seal(folder), tmp_path / "back.keras")
    again = k.models.load_model(restored.path)
    for kept, live in zip(_weights(again), _weights(model), strict=True):
        np.testing.assert_array_equal(kept, live)
    np.testing.assert_allclose(_train(again, 2), _train(model, 2), rtol=1e-6)


def test_what_cannot_be_kept_says_so(tmp_path: Path) -> None:
    """What is no Keras model has no file form."""
    with pytest.raises(ExportError, match=r"a dict has no file form.*--keep-source \(keep_source=\)"):
        keep_live({}, tmp_path)


def test_folders_come_back_as_folders(keras: Any, tmp_path: Path, capsys: Captured) -> None:
    """A SavedModel comes back with every file where it was; a file's suffix is refused."""
    source = tmp_path / "saved"
    sequential(keras).model.export(source, verbose=False)
    folder = _folder(tmp_path)
    keep_source(identify(source), folder)
    seal(folder, {"tag": "spring"})
    with pytest.raises(ExportError, match=r"\(SavedModel\) is a folder: name it without \.keras"):
        restore(folder, tmp_path / "back.keras")
    capsys.readouterr()
    assert main(["restore", str(tmp_path / "m" / "spring"), str(tmp_path / "back"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "SavedModel"
    assert _tree(tmp_path / "back") == _tree(source)


def _tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_checkpoints_come_back_with_their_architecture(tf_keras: Any, tmp_path: Path) -> None:
    """A checkpoint's files come back beside each other; the architecture it was given with is named."""
    model = sequential(tf_keras).model
    (tmp_path / "train").mkdir()
    model.save_weights(tmp_path / "train" / "cp-0001.ckpt")
    (tmp_path / "arch.json").write_text(model.to_json())
    folder = _folder(tmp_path)
    keep_source(identify(tmp_path / "train" / "cp-0001.ckpt"), folder, architecture=tmp_path / "arch.json")
    restored = restore(seal(folder), tmp_path / "back")
    names = {"cp-0001.ckpt.index", "cp-0001.ckpt.data-00000-of-00001"}
    assert names <= _tree(tmp_path / "back").keys()
    assert all(_tree(tmp_path / "back")[name] == _tree(tmp_path / "train")[name] for name in names)
    assert restored.architecture is not None
    assert restored.architecture.read_text() == model.to_json()


@pytest.fixture
def kept(keras: Any, tmp_path: Path) -> Path:
    """A version folder that keeps an .h5."""
    sequential(keras).model.save(tmp_path / "digits.h5")
    folder = _folder(tmp_path)
    keep_source(identify(tmp_path / "digits.h5"), folder)
    return seal(folder)


def test_a_suffix_that_says_something_else_is_refused(kept: Path, tmp_path: Path) -> None:
    """The error names the suffix that is right; nothing is written."""
    with pytest.raises(ExportError, match=r"\(HDF5 model\) is read by its suffix: name it back\.h5"):
        restore(kept, tmp_path / "out" / "back.keras")
    assert not (tmp_path / "out").exists()
    assert restore(kept, tmp_path / "out" / "back.hdf5").path.exists()


def test_nothing_is_overwritten(kept: Path, tmp_path: Path) -> None:
    """A file that is there stays as it is."""
    (tmp_path / "back.h5").write_text("mine")
    with pytest.raises(ExportError, match="exists; nothing is overwritten"):
        restore(kept, tmp_path / "back.h5")
    assert (tmp_path / "back.h5").read_text() == "mine"


def test_other_bytes_are_refused(kept: Path, tmp_path: Path) -> None:
    """A kept source that is not what was kept is not given back, and leaves nothing behind."""
    with (kept / "assets.extra" / "source" / "digits.h5").open("ab") as file:
        file.write(b"\x00")
    before = set(tmp_path.iterdir())
    with pytest.raises(ExportError, match="is not what was kept"):
        restore(kept, tmp_path / "back.h5")
    assert set(tmp_path.iterdir()) == before


def test_a_version_without_its_source_names_it(tmp_path: Path) -> None:
    """The error says what the version was made from, so that it can be looked for."""
    folder = seal(_folder(tmp_path), {"source": {"name": "digits.h5", "sha256": "ab12"}})
    with pytest.raises(ExportError, match=r"without --keep-source.*digits\.h5 \(sha256 ab12\)"):
        restore(folder, tmp_path / "back.h5")
