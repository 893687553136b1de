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

from tests import nursery
from tests.servers import RunningServer, running_server
from tfbundle_exporter.signatures.ready_made import parse_ready_made

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
#: Commands in the running text and in tables, and options in the first column of a table.
SPOKEN = re.findall(r"`(tfbundle (?:export|diff|restore) [^`]+)`", README)
OPTIONS = [
    option for row in re.findall(r"^\| (`--.*?) \|", README, re.MULTILINE) for option in re.findall("`(.*?)`", row)
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's user has: a trained model as .h5, some of its inputs, and their labels."""
    folder = tmp_path_factory.mktemp("readme")
    _succeed(nursery.run(["-m", "tfbundle.demo.training", str(folder / "training"), "--epochs=1"], {}))
    (folder / "training/digits.h5").rename(folder / "model.h5")
    images = np.load(folder / "training/test_images.npy")
    np.save(folder / "images.npy", images[:64])
    np.save(folder / "labels.npy", np.load(folder / "training/test_labels.npy")[:64])
    (folder / "my_layers.py").write_text(MY_LAYERS)
    (folder / "my_models.py").write_text(MY_MODELS)
    (folder / "classes.txt").write_text("\n".join("0123456789"))
    (folder / "token").write_text("sesame\n")
    _succeed(nursery.run(["-c", BELONGINGS], {}, folder=folder))
    return folder


MY_LAYERS = """
import keras

@keras.saving.register_keras_serializable("my_layers")
class Cap(keras.layers.Layer):
    def call(self, x):
        return keras.ops.minimum(x, 6.0)
"""
MY_MODELS = """
from pathlib import Path
import keras

def build():
    return keras.models.model_from_json(Path("model.json").read_text())
"""
#: What else the README's users have: weights, an architecture, a SavedModel, a training's folder, layers of their own.
BELONGINGS = """
from pathlib import Path
import keras
from my_layers import Cap

model = keras.models.load_model("model.h5")
model.save_weights("my.weights.h5")
Path("model.json").write_text(model.to_json())
model.export("saved_model", verbose=False)
Path("results").mkdir()
for epoch, loss in ((1, 0.5), (2, 0.3), (3, 0.4)):
    model.save(f"results/m-{epoch:02d}-val_loss{loss}.keras")
keras.Sequential([keras.Input((8, 8, 1)), Cap(), keras.layers.Flatten(), keras.layers.Dense(2)]).save("model.keras")
"""


class Reader:
    """Follows the README, block by block."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._server: RunningServer | None = None

    def follow(self, language: str, block: str) -> None:
        """Do what one block says."""
        if language == "python":
            _succeed(nursery.run(["-c", self._addressed(block)], {}, folder=self._folder), block)
            return
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(self._addressed(line), comments=True)
            if words[:2] == ["tfbundle", "serve"]:
                self._serve(words[2:])
            elif words[:1] == ["tfbundle"]:
                _succeed(nursery.run(words[1:], {}, folder=self._folder), line)
            elif words:
                self._run_in_shell(self._addressed(line), line)

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

    def _run_in_shell(self, line: str, shown: str) -> None:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        command = ["bash", "-c", line]
        _succeed(
            subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False, env=environment),
            shown,
        )


def _succeed(done: subprocess.CompletedProcess[str], shown: str = "") -> None:
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


@pytest.mark.parametrize("command", SPOKEN)
def test_readme_command_in_text_or_table_runs(command: str, workplace: Path) -> None:
    """So does what it tells them to type in the middle of a text or in a table."""
    arguments = shlex.split(command)[1:]
    keeps = ["--keep-source"] if arguments[:2] == ["export", "model.h5"] else []
    if arguments[0] == "restore":
        arguments[-1] = "restored.h5"
    _succeed(nursery.run([*arguments, *keeps], {}, folder=workplace))


def test_readme_signature_options_are_taken(workplace: Path) -> None:
    """All ready-made signatures that the README names can be had at once, and the settings it shows are settings."""
    shown = {*OPTIONS, *re.findall(r"`(--with [^`]+)`", README)}
    kinds = [option.split()[1] for option in shown if option.startswith("--with ")]
    assert {kind.partition(":")[0] for kind in kinds} >= {"image", "example", "classify", "regress", "raw", "top_k"}
    for kind in kinds:
        parse_ready_made(kind)
    ready = ("image:low=0,high=1", "example", "classify:labels=classes.txt", "raw")
    arguments = [
        "export",
        "model.h5",
        "models/signatures",
        "--labels=classes.txt",
        *(f"--with={kind}" for kind in ready),
    ]
    _succeed(nursery.run(arguments, {}, folder=workplace))


def test_readme_has_blocks_of_both_kinds() -> None:
    """The patterns still find the README's blocks, commands and options."""
    assert {language for language, _ in BLOCKS} == {"sh", "python"}
    assert {command.split()[1] for command in SPOKEN} == {"export", "diff", "restore"}
    assert len(SPOKEN) >= 8
    assert "--labels FILE" in OPTIONS
