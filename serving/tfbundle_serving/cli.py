"""`tfbundle serve`: reads the flags, starts the server, says what is served and where."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfbundle_serving.apis.model_status import State

from .server.flags import FlagError, help_text, parse
from .server.settings import settings_from_flags

if TYPE_CHECKING:
    from .server.lifecycle import Server

log = logging.getLogger(__name__)


@click.group()
def commands() -> None:
    """Serve models."""


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
    if not (flags.models_dir or flags["model_config_file"] or flags["model_base_path"]):
        raise click.UsageError("nothing to serve: give MODELS_DIR, --model_config_file or --model_base_path", context)
    settings = settings_from_flags(flags)
    _set_up_logging()
    for argument in flags.ignored:
        log.warning("unknown argument: %s", argument)

    # TensorFlow's own start-up lines say nothing that a user of this command could act on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from .server.lifecycle import Server
    from .server.process import serve as run

    run(Server(settings), _say_started)
    return 0


def main(argv: Sequence[str]) -> int:
    """Run a command of this room; argv[0] is its name."""
    code = commands.main(args=list(argv), prog_name="tfbundle", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _set_up_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    room = logging.getLogger(__package__)
    room.addHandler(handler)
    room.setLevel(logging.INFO)
    for foreign in ("tensorflow", "uvicorn"):
        logging.getLogger(foreign).setLevel(logging.ERROR)


def _say_started(server: Server) -> None:
    settings = server.settings
    source = f" from {_relative(settings.models_dir)}" if settings.models_dir else ""
    models = server.models()
    _say(f"serving {len(models)} {'model' if len(models) == 1 else 'models'}{source}")
    for name, statuses in models.items():
        live = [str(status.version) for status in reversed(statuses) if status.state is State.AVAILABLE]
        _say(f"  {name}  {'version ' + ', '.join(live) if live else 'no version yet'}")
    host = "localhost" if settings.host in ("127.0.0.1", "::1", "0.0.0.0", "::") else settings.host
    if server.grpc_port:
        _say(f"gRPC  grpc://{host}:{server.grpc_port}")
    if settings.grpc_socket_path:
        _say(f"gRPC  unix:{settings.grpc_socket_path}")
    if server.rest_port:
        _say(f"REST  http://{host}:{server.rest_port}/v1/models")
        if settings.monitoring.enable:
            _say(f"      http://{host}:{server.rest_port}{settings.monitoring.path}")
    _say("Ctrl-C stops the server")


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
