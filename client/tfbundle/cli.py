"""The roof: it names the sub-commands, enters the room that owns one, and turns errors into exit codes.

Exit code 0 is done, 1 failed (or, for parity and diff, differs), 2 misuse (or could not compare), 130 interrupted.
A room is imported when its command is called and not before, so that `tfbundle status` loads no TensorFlow.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tfbundle_serving.apis.errors import BundleError

#: A room's entry: takes the sub-command's name and its arguments, returns the exit code.
Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Command:
    """One sub-command.

    Attributes:
        load: Imports the room and gives its entry.
        extra: The extra of the package that brings what the room needs; "" where the bare client is enough.
        help: One line for the list of commands.
    """

    load: Callable[[], Main]
    extra: str
    help: str


def _exporter() -> Main:
    from tfbundle_exporter.cli import main

    return main


def _serving() -> Main:
    from tfbundle_serving.cli import main

    return main


def _client() -> Main:
    from tfbundle_client.cli import main

    return main


def _demo() -> Main:
    from .demo.cli import main

    return main


COMMANDS: dict[str, Command] = {
    "export": Command(_exporter, "export", "turn a model into the next version folder"),
    "inspect": Command(_exporter, "export", "show what a model file or a version is"),
    "diff": Command(_exporter, "export", "tell two versions apart, and whether a client would notice"),
    "verify": Command(_exporter, "export", "prove that a version is what was exported"),
    "doctor": Command(_exporter, "export", "find what a server would stumble over in a models folder"),
    "restore": Command(_exporter, "export", "get the source back that a version keeps"),
    "push": Command(_exporter, "remote", "send a version to a directory, s3:// or gs://, verified"),
    "pull": Command(_exporter, "remote", "fetch a version into a base path, verified"),
    "serve": Command(_serving, "serve", "serve version folders with TensorFlow Serving's flags and wire contract"),
    "render": Command(_serving, "render", "write the files that serve a models.config: Kubernetes, KServe, Compose"),
    "versions": Command(_client, "", "list a model's versions, tags and states"),
    "predict": Command(_client, "", "call a model"),
    "status": Command(_client, "", "show the state of a model's versions"),
    "metadata": Command(_client, "", "show a model's signatures"),
    "parity": Command(_client, "", "compare served answers with the trained model's"),
    "promote": Command(_client, "", "let a version label mean another version, proven and undone if it fails"),
    "canary": Command(_client, "", "load a version beside the stable one, compare them, say promote or don't"),
    "rollback": Command(_client, "", "let a version label mean the version before"),
    "prune": Command(_client, "", "move old versions that nobody needs to the trash"),
    "bench": Command(_client, "", "measure how a server answers under load"),
    "demo": Command(_demo, "all", "run the whole path on real data"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Args:
        argv: Arguments without the program's name; None means the process's own.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`tfbundle status ... | head`); Python must not complain of it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BundleError as error:
        if debug:
            raise
        _complain(str(error))
        return 1
    except Exception as error:
        if debug:
            raise
        return _unplanned(error)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"tfbundle {version('tfbundle')}")
        return 0
    name = arguments[0]
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see `tfbundle --help`"
        _complain(f"there is no command {name!r}; {hint}")
        return 2
    try:
        return command.load()(arguments)
    except ModuleNotFoundError as error:
        if not command.extra or _is_ours(error.name):
            raise
        _complain(
            f"`tfbundle {name}` needs more than the client, and the module {error.name} is not installed: "
            f"pip install 'tfbundle[{command.extra}]'"
        )
        return 1


def _is_ours(module: str | None) -> bool:
    return module is None or module.split(".")[0].startswith("tfbundle")


def _unplanned(error: Exception) -> int:
    """Report an error that is no BundleError: misuse that click found, the system's refusal, our own fault."""
    import click

    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx and error.ctx.info_name else "tfbundle COMMAND"
        _complain(f"{error.format_message()} (see `{command} --help`)")
        return 2
    if isinstance(error, click.ClickException):
        _complain(error.format_message())
        return error.exit_code
    if isinstance(error, click.Abort):
        _complain("interrupted")
        return 130
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, OSError):
        _complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return 1
    _complain(f"unexpected {type(error).__name__}: {error} (a fault of tfbundle's; --debug shows where)")
    return 1


def _complain(message: str) -> None:
    """Say one line to the person."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    return (
        "usage: tfbundle COMMAND ...\n\n"
        "A trained Keras model becomes a served, proven version.\n\n"
        f"commands:\n{rows}\n\n"
        "`tfbundle COMMAND --help` tells more; --debug shows the traceback of an error; --version prints the version."
    )
