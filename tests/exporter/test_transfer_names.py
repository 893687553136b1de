"""Names from elsewhere, and what a store says of its files."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from tfbundle_exporter.transfer import checksums
from tfbundle_exporter.transfer.checksums import Entry, agrees, read_entry
from tfbundle_exporter.transfer.manifest import read_manifest
from tfbundle_exporter.transfer.names import check_names, upload_order
from tfbundle_serving.apis.errors import ExportError

DIGEST = "0" * 64


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/.", "", "a/", "a\\b", "a\nb", "a\x00b", "..", "a/\x1b[2J"],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    """A listing is written by whoever may write to the store."""
    with pytest.raises(ExportError, match="no path inside a version folder"):
        check_names(["saved_model.pb", name], "s3://b/m/1")
    text = json.dumps({"files": {"saved_model.pb": DIGEST, name: DIGEST}}).encode()
    with pytest.raises(ExportError, match="no path inside a version folder"):
        read_manifest(text, "s3://b/m/1/metadata.json")


def test_a_name_is_a_file_or_a_folder() -> None:
    """Object stores hold both under one name, and a file system cannot."""
    with pytest.raises(ExportError, match="'assets' both as a file and as a folder"):
        check_names(["assets", "assets/a.txt"], "s3://b/m/1")
    check_names(["assets/a.txt", "assets/b c.txt", "assets.extra/ä.txt", "..a", "a..b/c"], "s3://b/m/1")


def test_the_graph_comes_last() -> None:
    """A server that looks in between finds no version, and never one without weights."""
    names = ["saved_model.pb", "metadata.json", "variables/variables.index", "variables/variables.data-00000-of-00002"]
    names += ["variables/variables.data-00001-of-00002", "assets/a/saved_model.pb", "assets.extra/x", "fingerprint.pb"]
    assert upload_order(names) == (
        ("metadata.json",),
        ("variables/variables.data-00000-of-00002", "variables/variables.data-00001-of-00002"),
        ("variables/variables.index",),
        ("assets/a/saved_model.pb",),
        ("assets.extra/x",),
        ("fingerprint.pb",),
        ("saved_model.pb",),
    )
    assert upload_order(["saved_model.pbtxt", "metadata.json"]) == (("metadata.json",), ("saved_model.pbtxt",))
    assert upload_order([]) == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"files": {"saved_', "is not JSON"),
        ("[]", "records no files"),
        ("{}", "records no files"),
        ('{"files": {}}', "records no files"),
        ('{"files": {"saved_model.pb": "abc"}}', "expected a SHA-256"),
        ('{"files": {"saved_model.pb": 1}}', "expected a SHA-256"),
        (json.dumps({"files": {"variables/variables.index": DIGEST}}), "not that of a version"),
        (json.dumps({"files": {"saved_model.pb": DIGEST, "metadata.json": DIGEST}}), "not that of a version"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_bad_metadata_json_is_refused(content: str, message: str) -> None:
    """It was cut off, or is another file of that name."""
    with pytest.raises(ExportError, match=message):
        read_manifest(content.encode(), "s3://b/m/1/metadata.json")


def test_hashes_of_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3's ETags and Google's MD5 are understood; an ETag that is something else proves nothing, for or against."""
    monkeypatch.setattr(checksums, "PART_BYTES", 4)
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    md5 = hashlib.md5(b"0123456789").hexdigest()
    parts = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in (b"0123", b"4567", b"89"))).hexdigest() + "-3"
    told = [
        ({"ETag": f'"{md5}"'}, True),
        ({"ETag": f'"{parts}"'}, True),
        ({"ETag": f'"{"0" * 32}"'}, None),
        ({"ETag": f'"{"0" * 32}-2"'}, None),
        ({"md5Hash": base64.b64encode(bytes.fromhex(md5)).decode()}, True),
        ({"md5Hash": base64.b64encode(bytes(16)).decode()}, False),
        ({"md5Hash": "?"}, None),
        ({}, None),
    ]
    assert [agrees(read_entry({"size": 10, **each}), path) for each, _ in told] == [expected for _, expected in told]
    assert agrees(Entry(size=9, etag=md5), path) is False
