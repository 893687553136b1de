"""tfbundle doctor: each way to get a models directory wrong, and the command that mends it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.exporter.version_folders import write_version
from tfbundle_exporter.reading.ailments import Ailment
from tfbundle_exporter.reading.cli import main
from tfbundle_exporter.reading.doctor import examine
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.prediction_log import RecordedRequest, encode_prediction_log

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def _version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of the model m."""
    return write_version(tmp_path_factory.mktemp("healthy") / "m", 1)


@pytest.fixture
def models(_version: Path, tmp_path: Path) -> Path:
    """A models directory with a healthy version m/1."""
    shutil.copytree(_version.parent, tmp_path / "models" / "m")
    return tmp_path / "models"


def _ailments(models: Path) -> list[Ailment]:
    return list(examine(models).ailments)


def _mend(ailment: Ailment) -> None:
    subprocess.run(ailment.remedy.partition("  (")[0], shell=True, check=True)


def test_a_healthy_directory(models: Path, capsys: Captured) -> None:
    """Nothing is found where nothing is wrong, from the models directory and from the base path; the exit code is 0."""
    assert main(["doctor", str(models)]) == 0
    assert "1 model(s), 1 version(s), 0 error(s), 0 warning(s)" in capsys.readouterr().out
    assert main(["doctor", str(models / "m"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"] == ["m"]


def _nested(base: Path) -> None:
    (base / "1").rename(base / "inner")
    (base / "1").mkdir()
    (base / "inner").rename(base / "1" / "1")


def _archived(base: Path) -> None:
    _nested(base)
    (base / "1" / "1").rename(base / "1" / "export dir")


def _extra_top(base: Path) -> None:
    (base / "m").mkdir()
    (base / "1").rename(base / "m" / "1")


def _unnumbered(base: Path) -> None:
    (base / "1").rename(base.parent / "aside")
    base.rmdir()
    (base.parent / "aside").rename(base)


def _named(base: Path) -> None:
    (base / "1").rename(base / "export")


def _zeros(base: Path) -> None:
    shutil.copytree(base / "1", base / "01")


def _empty(base: Path) -> None:
    (base / "2").mkdir()


def _no_graph(base: Path) -> None:
    shutil.copytree(base / "1", base / "2")
    (base / "2" / "saved_model.pb").unlink()


def _no_index(base: Path) -> None:
    shutil.copytree(base / "1", base / "2")
    (base / "2" / "variables" / "variables.index").unlink()


def _no_data(base: Path) -> None:
    shutil.copytree(base / "1", base / "2")
    next((base / "2" / "variables").glob("*.data*")).unlink()


def _cut_data(base: Path) -> None:
    shutil.copytree(base / "1", base / "2")
    data = next((base / "2" / "variables").glob("*.data*"))
    os.truncate(data, data.stat().st_size - 3)


def _cut_graph(base: Path) -> None:
    shutil.copytree(base / "1", base / "2")
    os.truncate(base / "2" / "saved_model.pb", 100)


def _private(base: Path) -> None:
    (base / "1").chmod(0o700)


def _private_file(base: Path) -> None:
    (base / "1" / "saved_model.pb").chmod(0o600)


def _checkpoints(base: Path) -> None:
    (base / "train").mkdir()
    (base / "train" / "checkpoint").touch()
    (base / "train" / "cp-0001.ckpt.index").touch()


def _checkpoints_by_number(base: Path) -> None:
    (base / "2").mkdir()
    (base / "2" / "weights.h5").touch()


def _epochs(base: Path) -> None:
    shutil.copytree(base / "1", base / "02")
    (base / "02" / "metadata.json").unlink()
    (base / "02" / "keras_metadata.pb").touch()


def _dangling(base: Path) -> None:
    (base / "2").symlink_to("gone")


def _file(base: Path) -> None:
    (base / "2").write_text("notes")


def _bad_name(base: Path) -> None:
    base.rename(base.parent / "my model:é")


def _broken_warmup(base: Path) -> None:
    (base / "1" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"nonsense" * 5)


def _zipped_warmup(base: Path) -> None:
    (base / "1" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"\x1f\x8b" + b"x" * 20)


def _damaged_released(base: Path) -> None:
    (base / ".released").write_text("1\nx\n")


def _warmup_folder(base: Path) -> None:
    (base / "1" / "assets.extra" / "tf_serving_warmup_requests").mkdir()


def _index_folder(base: Path) -> None:
    (base / "1" / "variables" / "variables.index").unlink()
    (base / "1" / "variables" / "variables.index").mkdir()


def _lost_asset(base: Path) -> None:
    (base / "1" / "assets").mkdir(exist_ok=True)
    (base / "1" / "assets" / "words.txt").symlink_to("gone")


def _closed(base: Path) -> None:
    base.chmod(0o700)


def _two_levels(base: Path) -> None:
    shutil.copytree(base / "1", base / "n" / "1")


ERRORS: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "nested": (_nested, "holds its model one folder too deep, in 1/", True),
    "archived": (_archived, "holds its model one folder too deep, in export dir/", True),
    "extra_top": (_extra_top, "has its versions one folder too deep, in m/", True),
    "unnumbered": (_unnumbered, "is itself a version and lies where the base path should be", True),
    "named": (_named, "has a model in export/, which is no number", True),
    "zeros": (_zeros, "01 and 1 are both version 1", True),
    "empty": (_empty, "is empty", True),
    "no_graph": (_no_graph, "is half-written: it has assets", True),
    "no_index": (_no_index, "variables/variables.index is missing", True),
    "no_data": (_no_data, "there is no variables/variables.data-00000-of-00001", True),
    "cut_data": (_cut_data, "3 bytes are missing from variables/variables.data", True),
    "cut_graph": (_cut_graph, "cannot be loaded", True),
    "private": (_private, "cannot be read by others (drwx------)", True),
    "private_file": (_private_file, "cannot be read by others (saved_model.pb -rw-------)", True),
    "checkpoints": (_checkpoints, "is a checkpoint folder (checkpoint) inside a base path", True),
    "checkpoints_by_number": (_checkpoints_by_number, "a training writes its checkpoints into the base path", True),
    "epochs": (_epochs, "looks like an epoch that ModelCheckpoint saved", False),
    "dangling": (_dangling, "is a link to gone, which is not there", True),
    "file": (_file, "is a file that is named like a version", True),
    "bad_name": (_bad_name, "has a name that cannot stand in a URL", True),
    "broken_warmup": (_broken_warmup, "has a warm-up file that is broken after 0 record(s)", True),
    "zipped_warmup": (_zipped_warmup, "is compressed", True),
    "warmup_folder": (_warmup_folder, "cannot be looked at: Is a directory", True),
    "index_folder": (_index_folder, "cannot be looked at: Is a directory", True),
    "lost_asset": (_lost_asset, "assets/words.txt is a link to gone, which is not there", True),
    "closed": (_closed, "cannot be read by others (drwx------)", True),
    "two_levels": (_two_levels, "is a model with versions of its own among the versions of another", False),
    "damaged_released": (_damaged_released, "so that nothing can be exported here", True),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_and_their_remedies(name: str, models: Path, capsys: Captured) -> None:
    """Each fault is named with its place, makes the exit code 1, and is gone after the command that is given."""
    spoil, expected, has_command = ERRORS[name]
    spoil(models / "m")
    assert main(["doctor", str(models)]) == 1
    assert expected in capsys.readouterr().out
    errors = [ailment for ailment in _ailments(models) if ailment.severity == "error"]
    assert len(errors) == 1, errors
    if has_command:
        _mend(errors[0])
        assert [ailment for ailment in _ailments(models) if ailment.severity == "error"] == []


def test_too_many_warmup_records(models: Path) -> None:
    """A warm-up file with more than 1,000 records is refused by servers, one with 1,000 is not."""
    import tensorflow as tf

    inputs = {"x": np.zeros((1, 3), np.float32)}
    record = encode_prediction_log(RecordedRequest(signature="serving_default", inputs=inputs))
    path = models / "m" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    for count, expected in ((1000, []), (1001, ["has 1001 warm-up records; servers refuse more than 1000"])):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for _ in range(count):
                writer.write(record)
        assert [ailment.what for ailment in _ailments(models)] == expected


def test_leftovers_are_warnings(models: Path, capsys: Captured) -> None:
    """What servers look past does no harm: the exit code stays 0. An exporter at work is left alone."""
    base = models / "m"
    for name in (".staging-dead", ".staging-alive", ".trash-4", "tmp-5", "5.bak"):
        (base / name).mkdir()
    (base / ".lock").touch()
    (base / ".staging-dead" / "owner").touch()
    (base / "model-01.h5").touch()
    (base / ".released").write_text("7\n")
    with (base / ".staging-alive" / "owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        assert main(["doctor", str(models), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"]
    found = {Path(each["path"]).name: each for each in report["ailments"]}
    assert found.keys() == {".staging-dead", ".trash-4", "tmp-5", "5.bak", "model-01.h5", "1"}
    assert {each["severity"] for each in found.values()} == {"warning"}
    assert "not put here by tfbundle export" in found["1"]["what"]


def test_copied_versions_and_twin_tags(models: Path) -> None:
    """metadata.json that speaks of another place, and one tag on two versions, are told."""
    base = models / "m"
    metadata = json.loads((base / "1" / "metadata.json").read_text()) | {"tag": "spring"}
    (base / "1" / "metadata.json").write_text(json.dumps(metadata))
    shutil.copytree(base / "1", base / "2")
    whats = [ailment.what for ailment in _ailments(models)]
    assert whats == [
        "says in its metadata.json that it is m version 1; it was copied or renamed",
        "bears the tag spring, as version 1 does; the tag means the newer one",
    ]


def test_several_models_are_looked_at(models: Path) -> None:
    """Every folder of the models directory is a model; one without versions is a warning."""
    shutil.copytree(models / "m", models / "n")
    (models / "empty").mkdir()
    _empty(models / "n")
    found = examine(models)
    assert found.models == ("empty", "m", "n")
    places = [(str(ailment.path.relative_to(models)), ailment.severity) for ailment in found.ailments]
    assert places == [("n/2", "error"), ("empty", "warning"), ("n/1", "warning")]


def test_no_directory(tmp_path: Path) -> None:
    """A path that is no folder is refused."""
    with pytest.raises(ExportError, match="expected the models directory"):
        main(["doctor", str(tmp_path / "none")])


def test_mending_keeps_what_else_is_there(models: Path) -> None:
    """The command for a nested version deletes no file that lies beside it."""
    _nested(models / "m")
    (models / "m" / "1" / "notes.txt").write_text("mine")
    _mend(_ailments(models)[0])
    assert (models / "m" / "1" / "saved_model.pb").exists()
    assert (models / "m" / ".nested-1" / "notes.txt").read_text() == "mine"


def test_a_version_folder_is_looked_at_by_itself(models: Path) -> None:
    """A healthy version that is pointed at is healthy, and is never told to move one folder deeper."""
    assert examine(models / "m" / "1").ailments == ()
    _cut_data(models / "m")
    (ailment,) = [each for each in examine(models / "m" / "2").ailments if each.severity == "error"]
    assert "3 bytes are missing" in ailment.what


def test_an_unnumbered_model_beside_versions(models: Path) -> None:
    """A model that servers look past is a warning; its remedy makes it a version of a number never given out."""
    shutil.copytree(models / "m" / "1", models / "m" / "v2")
    (models / "m" / ".released").write_text("1\n4\n")
    (ailment,) = _ailments(models)
    assert (ailment.severity, ailment.path.name) == ("warning", "v2")
    _mend(ailment)
    assert (models / "m" / "5" / "saved_model.pb").exists()


def test_a_model_that_this_user_may_not_see(models: Path) -> None:
    """A base path that is closed to the user is one error with its remedy; the other models are looked at as well."""
    user = os.geteuid()
    # pytest's own folders are closed to the user that root becomes here.
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        for name in ("closed", "open"):
            shutil.copytree(models / "m", place / name)
        (place / "closed").chmod(0o700 if user == 0 else 0)
        try:
            os.seteuid(user or 65534)
            found = examine(place)
        finally:
            os.seteuid(user)
            (place / "closed").chmod(0o700)
    assert found.models == ("closed", "open")
    assert found.versions == 1
    (problem,) = [each for each in found.ailments if each.severity == "error"]
    assert problem.path.name == "closed"
    assert problem.remedy.startswith("chmod -R a+rX")
