"""`tfbundle serve` and `tensorflow_model_server`: read the flags, start the server, say what is served and where."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfbundle_serving.apis.errors import ApiError, BundleError, InvalidArgument
from tfbundle_serving.apis.model_status import State, VersionStatus

from .render.command import render
from .server.flags import FlagError, Parsed, help_text, model_server_help_text, parse
from .server.output import say, set_up_logging
from .server.settings import settings_from_flags

if TYPE_CHECKING:
    from .server.lifecycle import Server
    from .server.workers import Started

log = logging.getLogger(__name__)

#: What tensorflow_model_server ends with where it was not understood or did not start: -1 in eight bits.
_MODEL_SERVER_FAILED = 255


@click.group()
def commands() -> None:
    """Serve models."""


commands.add_command(render)


# The flags are tensorflow_model_server's and parsed by its rules, which are not click's: a bare boolean does not take
# the next argument as its value.
@commands.command(
    "serve", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def serve(context: click.Context, arguments: tuple[str, ...]) -> int:
    """Serve version folders until SIGTERM or Ctrl-C."""
    try:
        flags = parse(arguments)
    except FlagError as error:
        raise click.UsageError(str(error), context) from error
    if flags["help"]:
        click.echo(help_text(), nl=False)
        return 0
    if flags["version"]:
        click.echo(_versions())
        return 0
    if not (flags.models_dir or flags["model_config_file"] or flags["model_base_path"]):
        raise click.UsageError("nothing to serve: give MODELS_DIR, --model_config_file or --model_base_path", context)
    set_up_logging()
    for argument in flags.ignored:
        log.warning("unknown argument: %s", argument)
    _run(flags)
    return 0


def tensorflow_model_server(argv: Sequence[str] | None = None) -> int:
    """Be tensorflow_model_server, for scripts and images that call it by that name.

    It differs from `tfbundle serve` as that program does: unknown arguments are printed and passed over, it listens on
    every address, there is no MODELS_DIR, and exit codes and the line that says why it did not start are that
    program's.

    Args:
        argv: Arguments without the program's name; None means the process's own.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--help"]:
        print(model_server_help_text())
        return _MODEL_SERVER_FAILED
    try:
        flags = parse(arguments, as_model_server=True)
    except FlagError as error:
        print(f"{error}\n{model_server_help_text()}")
        return _MODEL_SERVER_FAILED
    if flags["version"]:
        print(_versions())
        return 0
    for argument in flags.ignored:
        print(f"unknown argument: {argument}")
    if flags.ignored:
        print(model_server_help_text(), flush=True)
    try:
        if not (flags["model_config_file"] or flags["model_base_path"]):
            raise InvalidArgument("Both server_options.model_base_path and server_options.model_config_file are empty!")
        _run(flags)
    except BundleError as error:
        status = error.status_name if isinstance(error, ApiError) else "UNKNOWN"
        print(f"Failed to start server. Error: {status}: {error}", flush=True)
        return _MODEL_SERVER_FAILED
    return 0


def _run(flags: Parsed) -> None:
    """Serve until a signal comes."""
    set_up_logging()
    for notice in flags.notices:
        log.warning("%s", notice)
    settings = settings_from_flags(flags)
    # TensorFlow's own start-up lines say nothing that a user of this command could act on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    _ask_for_xla(on_cpu=flags["xla_cpu_compilation_enabled"], on_gpu=flags["xla_gpu_compilation_enabled"])
    if flags["workers"] < 1:
        raise InvalidArgument(f"--workers must be 1 or more, got {flags['workers']}")
    if flags["workers"] > 1:
        from .server.workers import serve_workers

        serve_workers(settings, flags["workers"], _say_started)
        return
    from .server.lifecycle import Server
    from .server.process import serve as run

    run(Server(settings), _say_started)


def _ask_for_xla(*, on_cpu: bool, on_gpu: bool) -> None:
    """Set what TensorFlow reads when it first optimizes a graph; there is no other way to compile on CPUs."""
    wanted = ["--tf_xla_auto_jit=1"] if on_cpu or on_gpu else []
    if on_cpu:
        wanted.append("--tf_xla_cpu_global_jit")
    if wanted:
        os.environ["TF_XLA_FLAGS"] = " ".join([os.environ.get("TF_XLA_FLAGS", ""), *wanted]).strip()


def _versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    def find(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    return f"TensorFlow ModelServer: {find('tfbundle')}+tfbundle\nTensorFlow Library: {find('tensorflow')}"


def main(argv: Sequence[str]) -> int:
    """Run a command of this room; argv[0] is its name."""
    code = commands.main(args=list(argv), prog_name="tfbundle", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _say_started(server: Server | Started) -> None:
    settings = server.settings
    source = f" from {_relative(settings.models_dir)}" if settings.models_dir else ""
    # One whose base path is still empty is to be served as well.
    models = {model.name: list[VersionStatus]() for model in settings.models} | server.models()
    by = f" by {server.workers} workers" if server.workers > 1 else ""
    say(f"serving {len(models)} {'model' if len(models) == 1 else 'models'}{source}{by}")
    for name, statuses in models.items():
        live = [str(status.version) for status in reversed(statuses) if status.state is State.AVAILABLE]
        say(f"  {name}  {'version ' + ', '.join(live) if live else 'no version yet'}")
    if server.grpc_port:
        say(f"gRPC  grpc{'s' if settings.ssl else ''}://{_reached_at(settings.host, server.grpc_port)}")
    if settings.grpc_socket_path:
        say(f"gRPC  unix:{settings.grpc_socket_path}")
    if server.rest_port:
        address = _reached_at(settings.rest_host or settings.host, server.rest_port)
        rest = f"http{'s' if settings.rest_ssl else ''}://{address}"
        say(f"REST  {rest}/v1/models")
        if settings.monitoring.enable:
            say(f"      {rest}{settings.monitoring.path}")
    if settings.record is not None:
        say(f"recording {100 * settings.record.rate:.4g} % of the requests to {_relative(settings.record.file)}")
    say("Ctrl-C stops the server")


def _reached_at(host: str, port: int) -> str:
    """Write where a person on this machine finds what listens there."""
    from .server.listening import target

    return target("localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else host, port)


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if here != Path("/") and path.is_relative_to(here) else str(path)
