"""The README's code blocks, run in their order in one scratch folder.

`sh` and `python` blocks run; `text` blocks show output, or need what a test machine may lack. A `tfbundle serve` runs
on beside the blocks that follow it, on ports that the system picks; those blocks get them instead of 8500 and 8501.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.servers import RunningServer, running_server

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's user has: a trained model as .h5, some of its inputs, and their labels."""
    folder = tmp_path_factory.mktemp("readme")
    training = [sys.executable, "-m", "tfbundle.demo.training", str(folder / "training"), "--epochs=1"]
    subprocess.run(training, check=True, capture_output=True)
    (folder / "training/digits.h5").rename(folder / "model.h5")
    images = np.load(folder / "training/test_images.npy")
    np.save(folder / "images.npy", images[:64])
    np.save(folder / "labels.npy", np.load(folder / "training/test_labels.npy")[:64])
    return folder


class Reader:
    """Follows the README, block by block."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._server: RunningServer | None = None

    def follow(self, language: str, block: str) -> None:
        """Do what one block says."""
        if language == "python":
            self._run([sys.executable, "-c", self._addressed(block)], block)
            return
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(self._addressed(line), comments=True)
            if words[:2] == ["tfbundle", "serve"]:
                self._serve(words[2:])
            elif words[:1] == ["tfbundle"]:
                self._run([sys.executable, "-m", *words], line)
            elif words:
                self._run(["bash", "-c", self._addressed(line)], line)

    def _serve(self, arguments: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self._folder)
            self._server = self._stack.enter_context(running_server(*arguments, folder=self._folder / "server"))

    def _addressed(self, text: str) -> str:
        if self._server is None:
            return text
        ports = {"localhost:8500": self._server.grpc_port, "localhost:8501": self._server.rest_port}
        for default, port in ports.items():
            text = text.replace(default, f"localhost:{port}")
        return text

    def _run(self, command: list[str], shown: str) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
        )
        assert done.returncode == 0, f"{shown}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def reader(workplace: Path) -> Iterator[Reader]:
    """One reader for all blocks, whose servers end with the module."""
    with ExitStack() as stack:
        yield Reader(workplace, stack)


@pytest.mark.parametrize(("language", "block"), BLOCKS, ids=[block.splitlines()[0][:60] for _, block in BLOCKS])
def test_readme_block_runs(reader: Reader, language: str, block: str) -> None:
    """What the README tells a user to type works as it stands."""
    reader.follow(language, block)


def test_readme_has_blocks_of_both_kinds() -> None:
    """The pattern still finds the README's blocks."""
    assert {language for language, _ in BLOCKS} == {"sh", "python"}
