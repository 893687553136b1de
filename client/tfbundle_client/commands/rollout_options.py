"""What the commands share that move labels: their options, and how they end when they are told to."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import click

from tfbundle_serving.apis.errors import BundleError, NotFound
from tfbundle_serving.apis.models_config_edit import find_model
from tfbundle_serving.apis.version_folder import parse_version

from ..rollout.addresses import open_fleet
from ..rollout.base_paths import local_base_path
from ..rollout.config_file import ConfigFile, find_config, open_config, read_config
from ..rollout.fleet import Fleet
from .options import Access, Function, access_of, access_options, json_option, timeout_option
from .output import print_json
from .version_option import read_version

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--server",
        "servers",
        metavar="URL",
        multiple=True,
        required=True,
        help="Every server that reads the models.config, grpc://host:port; repeatable.",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="The models.config.  [default: models.config or serving/models.config]",
    ),
    click.option(
        "--base-path",
        type=click.Path(path_type=Path),
        help="Where the model's versions are on this machine, if not where the models.config says.",
    ),
    timeout_option("Seconds for a reload, and for the version to load.", default=120.0),
    click.option(
        "--unload-others",
        is_flag=True,
        help="Go on where a server has models that the models.config does not list: they are unloaded.",
    ),
    click.option("--dry-run", is_flag=True, help="Print what would be done; change nothing."),
    access_options,
    json_option,
)


def rollout_options(command: Function) -> Function:
    """Add the options of a command that moves labels."""
    found: Any = command
    for option in reversed(_OPTIONS):
        found = option(found)
    typed: Function = found
    return typed


@contextmanager
def opened(
    config: Path | None, servers: Sequence[str], access: Access, *, timeout_s: float, dry_run: bool
) -> Iterator[tuple[ConfigFile, Fleet]]:
    """Lock the models.config and make a client for each server; SIGTERM then ends the command as Ctrl-C does.

    A dry run only reads the file, so that it leaves no lock behind and needs no right to write.

    Raises:
        RolloutError: The file is not there, or another command does not let it go.
        InvalidArgument: An address is none, or over REST.
    """
    found = find_config(config)
    give: Callable[[str], Mapping[str, Any]] = partial(access_of, access=access, others=servers)
    with (
        ended_by_signals(),
        open_fleet(servers, access_of=give) as fleet,
        nullcontext(read_config(found)) if dry_run else open_config(found, timeout_s=timeout_s, say=say) as file,
    ):
        _say_file(file)
        yield file, fleet


def _say_file(file: ConfigFile) -> None:
    """Say which models.config is meant; where it is none, who reads it tells."""
    with suppress(BundleError):
        names = ", ".join(each.name for each in file.read_models()) or "none"
        say(f"using {file.path} (models: {names})")


@contextmanager
def failing_as_json(as_json: bool, model: str) -> Iterator[None]:
    """Let a command that was asked for JSON print a failure as JSON, too; the exit code stays that of the failure."""
    try:
        yield
    except click.UsageError:
        raise
    except (BundleError, OSError, click.ClickException, KeyboardInterrupt) as error:
        if as_json:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            print_json({"model": model, "error": " ".join(text.split()) or "interrupted"})
        raise


def repeated(servers: Sequence[str], config: Path | None, base_path: Path | None) -> list[str]:
    """Give the options as they were typed, for a line that somebody pastes; never a token or a key."""
    options = [option for url in servers for option in ("--server", url)]
    options += [] if config is None else ["--config", str(config)]
    options += [] if base_path is None else ["--base-path", str(base_path)]
    return options


def say_servers(count: int) -> str:
    """Say how many servers there are."""
    return "1 server" if count == 1 else f"{count} servers"


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM, and the end of the terminal, raise KeyboardInterrupt, so that what was begun is put back."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    # nohup's command goes on when the terminal ends.
    taken = {name: handler for name, handler in before.items() if handler is not signal.SIG_IGN}
    for name in taken:
        signal.signal(getattr(signal, name), interrupt)
    try:
        yield
    finally:
        for name, handler in taken.items():
            signal.signal(getattr(signal, name), handler)


def find_number(version: str, config: ConfigFile, model: str, base_path: Path | None) -> int:
    """Find the number of a version given as a number or a tag.

    Raises:
        NotFound: No version bears the tag, or the model is none of the models.config.
        UsageError: A tag was given, and the versions are not on this machine.
    """
    number = parse_version(version)
    if number is None:
        there = local_base_path(find_model(config.read_models(), model, config.path), base_path)
        number = read_version(version, there, "VERSION")
    if number is None:
        raise NotFound(f"{model} has no version {version}", model=model, attempts=0)
    return number


def say(line: str) -> None:
    """Say a step to the person; that nobody reads any more stops no step."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)
