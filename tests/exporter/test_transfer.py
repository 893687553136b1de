"""Push and pull between directories, and with a store that has no folders and no hashes (fsspec's memory://)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.exporter.sealed_folders import contents, write_sealed
from tfbundle.cli import main
from tfbundle_exporter.transfer.pull import pull
from tfbundle_exporter.transfer.push import push
from tfbundle_exporter.transfer.stores import StoreOptions
from tfbundle_exporter.transfer.watching import keep_watching
from tfbundle_serving.apis.errors import ExportError


class FaultyFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """A store that writes down what it is given, and breaks when it is told to."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    log: ClassVar[list[str]] = []
    breaks_at: ClassVar[str] = ""
    cuts: ClassVar[str] = ""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("faulty://", "memory://")))

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        """Take a file."""
        if self.breaks_at and self.breaks_at in rpath:
            raise TimeoutError("the line went dead")
        self.log.append(rpath)
        super().put_file(lpath, rpath, **kwargs)

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        """Give a file, or a part of it."""
        super().get_file(rpath, lpath, **kwargs)
        if self.cuts and self.cuts in rpath:
            os.truncate(lpath, os.path.getsize(lpath) // 2)  # noqa: PTH202


@pytest.fixture(autouse=True)
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[FaultyFileSystem]:
    """An empty faulty:// store without a fault so far."""
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
    for name, value in {"store": {}, "pseudo_dirs": [""], "log": [], "breaks_at": "", "cuts": ""}.items():
        monkeypatch.setattr(FaultyFileSystem, name, value)
    return FaultyFileSystem


@pytest.fixture(params=["directory", "file URL", "store"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A base path elsewhere, which is not there yet."""
    return {
        "directory": str(tmp_path / "elsewhere/digits"),
        "file URL": (tmp_path / "else where/digits").as_uri(),
        "store": "faulty://models/digits",
    }[str(request.param)]


class TestThereAndBack:
    def test_a_version_comes_back_as_it_was(self, base: str, tmp_path: Path) -> None:
        """Byte for byte, under its number; and a second time there is nothing to do."""
        folder = write_sealed(tmp_path / "digits", 7)
        pushed = push(folder, base)
        assert (pushed.number, pushed.sent, pushed.files) == (7, 7, 7)
        assert push(folder, base).sent == 0
        arrived = pull(base, tmp_path / "back")
        assert (arrived.number, arrived.was_there, arrived.is_verified) == (7, False, True)
        assert contents(tmp_path / "back/7") == contents(folder)
        assert pull(f"{base}/7", tmp_path / "back").was_there
        assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [".lock", ".released", "7"]

    def test_which_version(self, base: str, tmp_path: Path) -> None:
        """The highest that is whole, or the one of a number or a tag."""
        for number, tag in ((1, "spring"), (2, "summer"), (10, None)):
            push(write_sealed(tmp_path / "digits", number, seed=number, tag=tag), base)
        assert pull(base, tmp_path / "a").number == 10
        assert pull(base, tmp_path / "a", version="2").number == 2
        assert pull(base, tmp_path / "a", version="spring").number == 1
        with pytest.raises(ExportError, match=r"no whole version \(.*\) with the tag winter; it has 1, 2, 10"):
            pull(base, tmp_path / "a", version="winter")
        with pytest.raises(ExportError, match=r"no version 3; it has 1, 2, 10"):
            pull(base, tmp_path / "a", version="3")

    def test_a_number_never_stands_for_two_models(self, base: str, tmp_path: Path) -> None:
        """Neither there nor here is anything overwritten."""
        old, new = write_sealed(tmp_path / "a", 1), write_sealed(tmp_path / "b", 1, seed=1)
        push(old, base)
        with pytest.raises(ExportError, match="another model"):
            push(new, base)
        with pytest.raises(ExportError, match="another model"):
            pull(base, tmp_path / "b")
        assert pull(base, tmp_path / "c").number == 1
        assert contents(tmp_path / "c/1") == contents(old)

    def test_tags_name_what_is_pushed(self, base: str, tmp_path: Path) -> None:
        """As everywhere, BASE_PATH/TAG is a version."""
        write_sealed(tmp_path / "digits", 4, tag="1.4.0")
        assert push(tmp_path / "digits/1.4.0", base).number == 4


class TestPush:
    def test_a_folder_that_is_not_what_was_published_stays_here(self, base: str, tmp_path: Path) -> None:
        """Corrupt, half, with something added, without metadata.json: nothing leaves the machine."""
        spoilt: tuple[tuple[str, Callable[[Path], object], str], ...] = (
            ("1", lambda folder: (folder / "saved_model.pb").write_bytes(b"?"), "changed saved_model.pb"),
            ("2", lambda folder: (folder / "variables/variables.index").unlink(), "missing variables/variables.index"),
            ("3", lambda folder: (folder / "added").touch(), "added added"),
            ("4", lambda folder: (folder / "metadata.json").unlink(), "has no metadata.json"),
            ("5", lambda folder: (folder / "metadata.json").write_text("{"), "is not JSON"),
        )
        for name, spoil, message in spoilt:
            folder = write_sealed(tmp_path / "digits", int(name))
            spoil(folder)
            with pytest.raises(ExportError, match=message):
                push(folder, base)
        with pytest.raises(ExportError, match="nothing at all"):
            pull(base, tmp_path / "back")

    def test_the_destination_is_the_base_path(self, base: str, tmp_path: Path) -> None:
        """Not the version in it, which would make models/digits/7/7."""
        with pytest.raises(ExportError, match=r"is a version; expected the base path above it"):
            push(write_sealed(tmp_path / "digits", 7), f"{base}/7")

    def test_a_folder_of_models_is_no_base_path(
        self, base: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A push beside models is refused and names the base path; a new one under another name is mentioned."""
        above = base.rpartition("/")[0]
        folder = write_sealed(tmp_path / "digits", 1, model="digits")
        with caplog.at_level("INFO", logger="tfbundle_exporter"):
            push(folder, base)
            assert "becomes a base path" not in caplog.text
            push(folder, f"{above}/other")
            push(write_sealed(tmp_path / "digits", 2, model="digits"), f"{above}/other")
        assert caplog.text.count("becomes a base path") == 1
        assert "/other/digits" in caplog.text
        with pytest.raises(ExportError, match=r"holds models \(digits, other\) and no version; .*/digits$"):
            push(folder, above)

    def test_what_is_sent_when(self, faulty: type[FaultyFileSystem], tmp_path: Path) -> None:
        """The graph last, metadata.json first, weights before their index."""
        push(write_sealed(tmp_path / "digits", 1), "faulty://models/digits")
        order = [path.removeprefix("/models/digits/1/") for path in faulty.log]
        assert order[-1] == "saved_model.pb"
        assert order[:3] == ["metadata.json", "variables/variables.data-00000-of-00001", "variables/variables.index"]

    @pytest.mark.parametrize("breaks_at", ["variables.index", "assets/", "metadata.json", "saved_model.pb"])
    def test_a_broken_off_push_goes_on(self, breaks_at: str, faulty: type[FaultyFileSystem], tmp_path: Path) -> None:
        """Until it is whole nobody can pull it, and then it is what it should be."""
        folder, base = write_sealed(tmp_path / "digits", 1), "faulty://models/digits"
        faulty.breaks_at = breaks_at
        with pytest.raises(ExportError, match=rf"faulty://models/digits/1/\S*{breaks_at}.* cannot be reached"):
            push(folder, base)
        with pytest.raises(ExportError, match=r"no whole version|nothing at all"):
            pull(base, tmp_path / "back")
        faulty.breaks_at = ""
        assert push(folder, base, verify=True).hashed == 7
        pull(base, tmp_path / "back")
        assert contents(tmp_path / "back/1") == contents(folder)

    def test_a_half_version_of_another_model_is_left_alone(
        self, faulty: type[FaultyFileSystem], tmp_path: Path
    ) -> None:
        """Two pushes of one number must not become a mixture."""
        faulty.breaks_at = "saved_model.pb"
        with pytest.raises(ExportError):
            push(write_sealed(tmp_path / "a", 1), "faulty://models/digits")
        faulty.breaks_at = ""
        with pytest.raises(ExportError, match=r"another model than .*metadata.json differs"):
            push(write_sealed(tmp_path / "b", 1, seed=1), "faulty://models/digits")

    def test_a_version_that_lost_files_there(self, tmp_path: Path) -> None:
        """With its graph there servers may have loaded it, so nothing is put beside it."""
        folder = write_sealed(tmp_path / "digits", 1)
        push(folder, "faulty://models/digits")
        store = fsspec.filesystem("faulty")
        store.rm_file("/models/digits/1/variables/variables.index")
        with pytest.raises(ExportError, match=r"take it for whole, but variables/variables.index is missing"):
            push(folder, "faulty://models/digits")
        with pytest.raises(ExportError, match=r"lacks variables/variables.index"):
            pull("faulty://models/digits/1", tmp_path / "back")

    def test_reading_back(self, tmp_path: Path) -> None:
        """--verify finds what a size does not tell."""
        folder = write_sealed(tmp_path / "digits", 1)
        assert push(folder, "faulty://models/digits").sized == 7
        store = fsspec.filesystem("faulty")
        store.pipe_file("/models/digits/1/variables/variables.index", b"xedni")
        assert push(folder, "faulty://models/digits").sent == 0
        with pytest.raises(ExportError, match=r"does not hold what .*: variables/variables.index is missing or other"):
            push(folder, "faulty://models/digits", verify=True)


class TestPull:
    def test_what_was_cut_off_or_changed_on_its_way(self, faulty: type[FaultyFileSystem], tmp_path: Path) -> None:
        """Nothing appears, and nothing is left."""
        push(write_sealed(tmp_path / "digits", 1), "faulty://models/digits")
        faulty.cuts = ".data-"
        with pytest.raises(ExportError, match=r"variables.data-00000-of-00001 was cut off: 500 of 1,000 bytes came"):
            pull("faulty://models/digits", tmp_path / "back")
        faulty.cuts = ""
        fsspec.filesystem("faulty").pipe_file("/models/digits/1/variables/variables.index", b"xedni")
        with pytest.raises(ExportError, match=r"is corrupt: variables/variables.index is not what its metadata.json"):
            pull("faulty://models/digits", tmp_path / "back")
        assert not (tmp_path / "back").exists()

    def test_without_metadata(self, tmp_path: Path) -> None:
        """Only if one insists, and then the number still stands for one content."""
        store = fsspec.filesystem("faulty")
        store.pipe({"/m/3/saved_model.pb": b"graph", "/m/3/variables/variables.index": b"index"})
        with pytest.raises(ExportError, match=r"no metadata.json.*--allow-unverified"):
            pull("faulty://m", tmp_path / "back")
        for was_there in (False, True):
            arrived = pull("faulty://m", tmp_path / "back", allow_unverified=True)
            assert (arrived.number, arrived.is_verified, arrived.was_there) == (3, False, was_there)
        store.pipe_file("/m/3/variables/variables.index", b"xedni")
        with pytest.raises(ExportError, match="another model"):
            pull("faulty://m", tmp_path / "back", allow_unverified=True)

    def test_files_that_are_not_the_versions(self, tmp_path: Path) -> None:
        """What metadata.json does not name is not taken, whatever its name."""
        push(write_sealed(tmp_path / "digits", 1), "faulty://models/digits")
        fsspec.filesystem("faulty").pipe_file("/models/digits/1/assets.extra/added.py", b"?")
        arrived = pull("faulty://models/digits/1", tmp_path / "back")
        assert arrived.left_out == ("assets.extra/added.py",)
        assert not (tmp_path / "back/1/assets.extra/added.py").exists()

    def test_a_huge_metadata_json_is_not_read(self, tmp_path: Path) -> None:
        """Whoever may write there must not take this machine's memory."""
        folder = write_sealed(tmp_path / "digits", 1)
        os.truncate(folder / "metadata.json", 1 << 40)
        with pytest.raises(ExportError, match="1,099,511,627,776 bytes; expected 67,108,864 at most"):
            pull(str(folder), tmp_path / "back")

    def test_hostile_listings(self, tmp_path: Path) -> None:
        """A key with two dots in it does not leave the staging folder."""
        store = fsspec.filesystem("faulty")
        store.store["/m/1/saved_model.pb"] = store.store["/m/1/../../../out"] = None
        for key in list(store.store):
            del store.store[key]
            store.pipe_file("/x", b"graph")
            store.store[key] = store.store.pop("/x")
        with pytest.raises(ExportError, match="no path inside a version folder"):
            pull("faulty://m/1", tmp_path / "a/b/back", allow_unverified=True)
        assert not any(path.is_file() for path in tmp_path.rglob("*"))

    def test_damage_here_is_told_from_another_model(self, base: str, tmp_path: Path) -> None:
        """The same version with a changed file is to be moved away, not to be renumbered."""
        push(write_sealed(tmp_path / "digits", 1), base)
        pull(base, tmp_path / "back")
        (tmp_path / "back/1/saved_model.pb").write_bytes(b"?")
        with pytest.raises(ExportError, match=r"damaged here \(saved_model.pb\)"):
            pull(base, tmp_path / "back")

    def test_a_number_that_was_removed_comes_back_if_asked_for(self, base: str, tmp_path: Path) -> None:
        """By itself it does not: nobody could tell any more whether it is the same."""
        push(write_sealed(tmp_path / "digits", 1), base)
        folder = pull(base, tmp_path / "back").folder
        folder.rename(tmp_path / "gone")
        with pytest.raises(ExportError, match=r"was in .*before and was removed; --again brings it back"):
            pull(base, tmp_path / "back")
        assert pull(base, tmp_path / "back", again=True).number == 1

    def test_several_at_once(self, tmp_path: Path) -> None:
        """One brings it, and the others find the same there."""
        write_sealed(tmp_path / "digits", 1, size=200_000)
        with ThreadPoolExecutor(4) as threads:
            arrived = list(threads.map(lambda _: pull(str(tmp_path / "digits"), tmp_path / "back"), range(4)))
        assert sorted(each.was_there for each in arrived) == [False, True, True, True]

    def test_watching(self, base: str, tmp_path: Path) -> None:
        """A sidecar brings what comes, and outlives that there is nothing yet."""
        stop = threading.Event()
        seen: list[int] = []
        looks: list[int] = []

        def look() -> None:
            looks.append(1)
            seen.append(pull(base, tmp_path / "back", proven=set(seen)).number)

        thread = threading.Thread(target=keep_watching, args=(look,), kwargs={"every_s": 0.02, "stop": stop})
        thread.start()
        _wait_for(lambda: len(looks) > 1)
        for number in (1, 2):
            push(write_sealed(tmp_path / "digits", number, seed=number), base)
            _wait_for(partial(seen.__contains__, number))
        stop.set()
        thread.join()
        assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [".lock", ".released", "1", "2"]


def _wait_for(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestPlaces:
    @pytest.mark.parametrize(
        ("source", "options", "message"),
        [
            ("nowhere://m", StoreOptions(), "nothing here reaches such a URL"),
            ("abfs://c/m", StoreOptions(), "Install adlfs"),
            ("file://host/m", StoreOptions(), "names a file of the host 'host'"),
            ("s3://", StoreOptions(), "names no bucket"),
            ("faulty://m", StoreOptions(endpoint_url="http://x"), "--endpoint-url is for gcs://, gs://, s3://, s3a://"),
            ("here", StoreOptions(endpoint_url="http://x"), "is a directory of this machine"),
            ("here", StoreOptions(), "there is nothing at all"),
        ],
    )
    def test_places_that_do_not_work(self, source: str, options: StoreOptions, message: str, tmp_path: Path) -> None:
        """One line says what is wrong with the place."""
        with pytest.raises(ExportError, match=message):
            pull(source if "://" in source else str(tmp_path / source), tmp_path / "back", options=options)

    @pytest.mark.parametrize(
        "source", ["s3://me:geheim@models/m", "http://me:geheim@127.0.0.1:1/m", "nope://me:geheim@h"]
    )
    def test_a_password_is_not_repeated(self, source: str, tmp_path: Path) -> None:
        """Messages end in logs."""
        for here, there in ((source, str(tmp_path / "back")), (str(tmp_path), f"{source}/7")):
            with pytest.raises(ExportError) as refused:
                pull(here, there)
            assert "geheim" not in str(refused.value)

    def test_a_base_path_is_on_this_machine(self, tmp_path: Path) -> None:
        """Pull goes one way, push the other."""
        with pytest.raises(ExportError, match="is no directory of this machine"):
            pull(str(tmp_path), "s3://models/digits")


class TestCommands:
    def test_json(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One document on standard output, the talk elsewhere."""
        folder = write_sealed(tmp_path / "digits", 1)
        assert main(["push", str(folder), str(tmp_path / "there"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["already_there"] is False
        assert main(["pull", str(tmp_path / "there"), str(tmp_path / "back"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["verified"] is True
        assert main(["pull", str(tmp_path / "there"), str(tmp_path / "back")]) == 0
        assert "already there" in capsys.readouterr().out
        (folder / "saved_model.pb").write_bytes(b"?")
        assert main(["push", str(folder), str(tmp_path / "there")]) == 1
        assert capsys.readouterr().err.startswith("error: ")

    @pytest.mark.parametrize(
        "arguments", [["--watch", "1", "--version", "1"], ["--storage-option", "x"], ["--jobs", "0"], ["--watch", "0"]]
    )
    def test_misuse(self, arguments: list[str], tmp_path: Path) -> None:
        """Exit code 2, before anything is done."""
        assert main(["pull", str(tmp_path), str(tmp_path / "back"), *arguments]) == 2

    def test_no_tensorflow_is_needed(self, tmp_path: Path) -> None:
        """An init container has fsspec and no TensorFlow, Keras or h5py, and for directories not even that."""
        folder = write_sealed(tmp_path / "digits", 1)
        code = (
            "import sys\n"
            "for name in ('tensorflow', 'keras', 'tf_keras', 'h5py', 'yaml', 'google.protobuf', 'fsspec'):\n"
            "    sys.modules[name] = None\n"
            "from tfbundle.cli import main\n"
            f"assert main(['push', {str(folder)!r}, {str(tmp_path / 'there')!r}]) == 0\n"
            f"assert main(['pull', {str(tmp_path / 'there')!r}, {str(tmp_path / 'back')!r}]) == 0\n"
            f"sys.exit(main(['pull', 's3://models/digits', {str(tmp_path / 'back')!r}]) + 10)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 11, done.stderr
        assert "pip install 'tfbundle[remote]'" in done.stderr
