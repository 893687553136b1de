"""Push and pull with S3: s3fs and its libraries against moto's S3 server, over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exporter.sealed_folders import contents, write_sealed
from tfbundle.cli import main
from tfbundle_exporter.transfer import checksums, remote_store
from tfbundle_exporter.transfer.pull import pull
from tfbundle_exporter.transfer.push import push
from tfbundle_exporter.transfer.stores import StoreOptions
from tfbundle_serving.apis.errors import ExportError

KEYS = {"key": "somebody", "secret": "anything"}


@pytest.fixture(scope="module")
def s3() -> Iterator[StoreOptions]:
    """A server on a free port of loopback, with the bucket `models`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = StoreOptions(endpoint_url=f"http://{host}:{port}", values=KEYS)
    _files(options).mkdir("models")
    yield options
    server.stop()


def _files(options: StoreOptions):  # type: ignore[no-untyped-def]
    import s3fs

    return s3fs.S3FileSystem(endpoint_url=options.endpoint_url, use_listings_cache=False, **options.values)


@pytest.fixture
def base(request: pytest.FixtureRequest) -> str:
    """A base path that no other test has."""
    return f"s3://models/{request.node.name}"


def test_there_and_back(base: str, s3: StoreOptions, tmp_path: Path) -> None:
    """Byte for byte, each file held against the hash that S3 gives, and the second time nothing travels."""
    folder = write_sealed(tmp_path / "digits", 7, tag="1.4.0")
    pushed = push(folder, base, options=s3)
    assert (pushed.sent, pushed.hashed, pushed.sized) == (7, 7, 0)
    assert push(folder, base, options=s3).sent == 0
    assert pull(base, tmp_path / "back", version="1.4.0", options=s3).number == 7
    assert pull(f"{base}/7", tmp_path / "back", options=s3).was_there
    assert contents(tmp_path / "back/7") == contents(folder)


def test_a_large_file_goes_in_parts(
    base: str, s3: StoreOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ETag is not its MD5, and proves it all the same."""
    for module in (checksums, remote_store):
        monkeypatch.setattr(module, "PART_BYTES", 5 << 20)
    folder = write_sealed(tmp_path / "digits", 1, size=11 << 20)
    pushed = push(folder, base, options=s3)
    assert (pushed.sent, pushed.hashed, pushed.sized) == (7, 7, 0)
    data = f"{base}/1/variables/variables.data-00000-of-00001".removeprefix("s3://")
    assert _files(s3).info(data)["ETag"].endswith('-3"')
    pull(base, tmp_path / "back", options=s3)
    assert contents(tmp_path / "back/1") == contents(folder)
    other = write_sealed(tmp_path / "other", 1, seed=1, size=11 << 20)
    _files(s3).put_file(str(other / "variables/variables.data-00000-of-00001"), data, chunksize=5 << 20)
    with pytest.raises(ExportError, match=r"variables\.data-00000-of-00001 is missing or other"):
        push(folder, base, options=s3)


def test_a_broken_off_push_goes_on(base: str, s3: StoreOptions, tmp_path: Path) -> None:
    """What is there the same stays, what is there otherwise is sent again, and a graph is never put over another."""
    folder = write_sealed(tmp_path / "digits", 1)
    push(folder, base, options=s3)
    files, there = _files(s3), f"{base}/1".removeprefix("s3://")
    files.rm_file(f"{there}/saved_model.pb")
    files.pipe_file(f"{there}/variables/variables.index", b"xedni")
    with pytest.raises(ExportError, match="no whole version"):
        pull(base, tmp_path / "back", options=s3)
    assert push(folder, base, options=s3).sent == 2
    pull(base, tmp_path / "back", options=s3)
    with pytest.raises(ExportError, match="another model"):
        push(write_sealed(tmp_path / "other", 1, seed=1), base, options=s3)


def test_a_graph_that_came_in_between(base: str, s3: StoreOptions, tmp_path: Path) -> None:
    """S3 itself refuses to put a second one there."""
    store = remote_store.open_remote(f"{base}/1", s3)
    (tmp_path / "graph").write_bytes(b"graph")
    store.put("saved_model.pb", tmp_path / "graph", lambda _: None, is_new=True)
    with pytest.raises(FileExistsError):
        store.put("saved_model.pb", tmp_path / "graph", lambda _: None, is_new=True)


def test_another_push_of_the_same_number(
    base: str, s3: StoreOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has begun in the meantime is not overwritten; the same content from two sides is one version."""
    folder = write_sealed(tmp_path / "digits", 1)
    put = remote_store.RemoteStore.put

    def overtaken(by: Path):  # type: ignore[no-untyped-def]
        def put_late(self, name, path, on_bytes, *, is_new):  # type: ignore[no-untyped-def]
            put(self, name, by / name, on_bytes, is_new=False)
            put(self, name, path, on_bytes, is_new=is_new)

        return put_late

    monkeypatch.setattr(remote_store.RemoteStore, "put", overtaken(write_sealed(tmp_path / "other", 1, seed=1)))
    with pytest.raises(ExportError, match=r"metadata\.json has just been put there by another push"):
        push(folder, base, options=s3)
    monkeypatch.setattr(remote_store.RemoteStore, "put", overtaken(folder))
    assert push(folder, f"{base}/same", options=s3).hashed == 7


def test_a_graph_of_another_model(base: str, s3: StoreOptions, tmp_path: Path) -> None:
    """Of the same size, beside files that are the same: the hashes that S3 gives tell."""
    folder = write_sealed(tmp_path / "digits", 1)
    push(folder, base, options=s3)
    _files(s3).pipe_file(f"{base}/1/saved_model.pb".removeprefix("s3://"), b"graph 1")
    with pytest.raises(ExportError, match=r"does not hold what .* does: saved_model\.pb is missing or other"):
        push(folder, base, options=s3)


def test_changed_there(base: str, s3: StoreOptions, tmp_path: Path) -> None:
    """A file that is not what metadata.json says does not get into a base path."""
    push(write_sealed(tmp_path / "digits", 1), base, options=s3)
    _files(s3).pipe_file(f"{base}/1/variables/variables.index".removeprefix("s3://"), b"xedni")
    with pytest.raises(ExportError, match=r"corrupt: variables/variables.index is not what its metadata.json says"):
        pull(base, tmp_path / "back", options=s3)
    with pytest.raises(ExportError, match="does not hold what"):
        push(tmp_path / "digits/1", base, options=s3, verify=True)
    assert not (tmp_path / "back").exists()


def test_names_that_lead_elsewhere(base: str, s3: StoreOptions, tmp_path: Path) -> None:
    """A bucket holds any key."""
    files = _files(s3)
    for name in ("saved_model.pb", "../../../out", "variables/"):
        files.call_s3("put_object", Bucket="models", Key=f"{base}/1/{name}".removeprefix("s3://models/"), Body=b"?")
    with pytest.raises(ExportError, match="no path inside a version folder"):
        pull(f"{base}/1", tmp_path / "a/b/back", options=s3, allow_unverified=True)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_what_does_not_work(
    s3: StoreOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that names the URL and says what to do, and exit code 1."""
    folder = write_sealed(tmp_path / "digits", 1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    keys = [f"--storage-option={name}={value}" for name, value in KEYS.items()]
    endpoint = f"--endpoint-url={s3.endpoint_url}"
    for arguments, message in (
        ([str(folder), "s3://nobucket/digits", endpoint, *keys], "there is no such bucket"),
        ([str(folder), "s3://models/digits", endpoint], "there are no credentials for it; set AWS_ACCESS_KEY_ID"),
        ([str(folder), "s3://models/digits", endpoint, *keys, "--storage-option=so=1"], "--storage-option is wrong"),
    ):
        assert main(["push", *arguments]) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"error: {arguments[1]}")
        assert message in told
        assert told.count("\n") == 1
