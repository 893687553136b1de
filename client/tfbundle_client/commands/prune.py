"""`tfbundle prune`: old versions leave a base path, through the trash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click

from tfbundle_serving.apis.base_path_lock import locked
from tfbundle_serving.apis.errors import BundleError, NotFound, RolloutError
from tfbundle_serving.apis.models_config_edit import ConfiguredModel, find_model

from ..client import Client
from ..pruning.choice import (
    Reasons,
    Verdict,
    asked_by_config,
    asked_by_history,
    asked_by_pins,
    asked_by_server,
    choose,
    configured_for,
    is_elsewhere,
    look,
)
from ..pruning.pins import PINNED, change_pins, read_pins
from ..pruning.trash import TRASH, empty_trash, list_trash, move_to_trash, restore
from ..rollout.addresses import open_fleet
from ..rollout.config_file import DEFAULT_PLACES, find_config, open_config, read_config
from ..rollout.folder_size import folder_size
from ..rollout.history import Record, read_history
from ..rollout.server import Server
from ..transports.address import parse_address
from .options import Access, Number, access_of, access_options, json_option, timeout_option
from .output import print_json
from .prune_output import print_prune
from .rollout_options import failing_as_json, say
from .version_option import read_version
from .versions import base_paths_in

#: Labels that a server is asked for besides those of the models.config.
_USUAL_LABELS = ("stable", "canary")


@click.command()
@click.argument("base_path", type=click.Path(path_type=Path))
@click.option("--keep", type=click.IntRange(1), default=5, show_default=True, help="So many of the newest stay.")
@click.option(
    "--server", "servers", multiple=True, metavar="URL", help="What this server has loaded stays; repeatable."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The models.config whose labels stay.  [default: models.config or serving/models.config, where there is one]",
)
@click.option("--model", default="", help="What servers call the model.  [default: the base path's name]")
@click.option(
    "--trash-days",
    type=Number(0),
    default=7.0,
    show_default=True,
    help="Days in the trash, until a later prune removes a version for good; 0 removes it at once.",
)
@click.option("--pin", metavar="NUMBER|TAG", help="Never prune this version; nothing else is done.")
@click.option("--unpin", metavar="NUMBER|TAG", help="Take that back; nothing else is done.")
@click.option("--restore", "restored", type=int, metavar="NUMBER", help="Bring it back; nothing else is done.")
@click.option(
    "--unserved", is_flag=True, help="Nothing serves it: go on without a server or models.config that has it."
)
@click.option("--dry-run", is_flag=True, help="Print what would be done; change nothing.")
@timeout_option("Seconds to wait for a server's answer.")
@access_options
@json_option
def prune(
    base_path: Path,
    keep: int,
    servers: tuple[str, ...],
    config: Path | None,
    model: str,
    trash_days: float,
    pin: str | None,
    unpin: str | None,
    restored: int | None,
    unserved: bool,
    dry_run: bool,
    timeout: float,
    access: Access,
    as_json: bool,
) -> None:
    """Move old versions of BASE_PATH to its trash; those that are needed stay, however old.

    Needed is what a models.config labels or asks for, what a label can be rolled back to, what a server has loaded,
    what is pinned, and the newest. If a server cannot be asked, nothing is pruned.
    """
    if sum(value is not None for value in (pin, unpin, restored)) > 1:
        raise click.UsageError("give one of --pin, --unpin and --restore")
    with failing_as_json(as_json, model or base_path.resolve().name):
        if not base_path.is_dir():
            raise NotFound(f"{base_path} is no folder; expected a base path, such as models/digits", attempts=0)
        if pin is not None or unpin is not None:
            _pin(base_path, pin, unpin, dry_run=dry_run, as_json=as_json)
            return
        if restored is not None:
            _restore(base_path, restored, dry_run=dry_run, as_json=as_json)
            return
        if not look(base_path) and not list_trash(base_path):
            raise NotFound(
                f"there is no version folder in {base_path}; {base_paths_in(base_path)}; nothing was pruned", attempts=0
            )
        name = model or base_path.resolve().name
        now = datetime.now(timezone.utc)
        age = timedelta(days=trash_days)
        with ExitStack() as stack:
            models, records = _read_config(stack, config, name, base_path, dry_run=dry_run)
            if not (models or servers or unserved):
                raise RolloutError(
                    f"neither a server (--server) nor a models.config that has {name} (--config) says which versions "
                    "are needed; --unserved goes on if nothing serves it; nothing was pruned"
                )
            names = tuple(dict.fromkeys([name, *(each.name for each in models)]))
            labels = tuple(dict.fromkeys([*_USUAL_LABELS, *(label for each in models for label in each.labels)]))
            reasons: list[Reasons] = [asked_by_history(records, names)]
            reasons += _ask(stack, servers, names, labels, access, timeout)
            verdicts = _decide(base_path, keep, models, reasons)
            moved = _measure(verdicts)
            if dry_run:
                gone = [(each, folder_size(each.path)) for each in list_trash(base_path) if now - each.when >= age]
            else:
                with locked(base_path):
                    # Pins and folders may have changed while servers were asked.
                    verdicts = _decide(base_path, keep, models, reasons)
                    moved = _measure(verdicts)
                    if moved:
                        move_to_trash(base_path, [each.version.folder for each in verdicts if each.goes], now)
                sizes = {each.path: folder_size(each.path) for each in list_trash(base_path)}
                gone = [(each, sizes[each.path]) for each in empty_trash(base_path, older_than=age, now=now)]
        print_prune(
            base_path, name, servers, verdicts, moved, gone, dry_run=dry_run, as_json=as_json, at_once=trash_days == 0
        )


def _decide(base: Path, keep: int, models: Sequence[ConfiguredModel], reasons: Sequence[Reasons]) -> list[Verdict]:
    versions = look(base)
    numbers = [version.number for version in versions]
    asked = [asked_by_pins(read_pins(base)), asked_by_config(models, numbers), *reasons]
    return list(choose(versions, keep=keep, reasons=asked))


def _measure(verdicts: Sequence[Verdict]) -> dict[int, int]:
    return {each.version.number: folder_size(each.version.folder) for each in verdicts if each.goes}


def _read_config(
    stack: ExitStack, config: Path | None, name: str, base: Path, *, dry_run: bool
) -> tuple[tuple[ConfiguredModel, ...], tuple[Record, ...]]:
    """Read who is labelled; the models.config stays locked, so that no promotion comes in between."""
    if config is None and not any(place.is_file() for place in DEFAULT_PLACES):
        say("no models.config was read (--config), so that labels and rollbacks are not known")
        return (), ()
    path = find_config(config)
    everyone = (read_config(path) if dry_run else stack.enter_context(open_config(path, say=say))).read_models()
    models = configured_for(everyone, name, base)
    # A models.config that merely lies here may be of another folder; one that was named is taken at its word.
    others = [each for each in models if config is None and is_elsewhere(each, base)]
    if others and len(others) == len(models):
        paths = ", ".join(dict.fromkeys(each.base_path for each in others))
        say(f"{path} is of {paths}, not of {base.resolve()}, so that labels and rollbacks are not known")
        return (), ()
    models = tuple(each for each in models if each not in others)
    if not models:
        if config is not None:
            find_model(everyone, name, path)
        say(f"{path} has no model {name}, so that labels and rollbacks are not known")
    return models, read_history(path.resolve())


def _ask(
    stack: ExitStack,
    urls: Sequence[str],
    names: Sequence[str],
    labels: Sequence[str],
    access: Access,
    timeout_s: float,
) -> Iterator[Reasons]:
    """Ask every server what it has loaded.

    Raises:
        RolloutError: One does not answer, or knows no such model.
    """
    if not urls:
        say("no server was asked (--server), so that what one has loaded is not known")
        return
    for server in _open(stack, urls, access, timeout_s):
        try:
            found = {name: server.states(name) for name in names}
            meant = {name: _labelled(server, name, labels) for name, states in found.items() if states}
        except BundleError as error:
            raise RolloutError(f"{server.url} cannot be asked, so that nothing was pruned: {error}") from error
        if not meant:
            raise RolloutError(
                f"{server.url} serves no model {' or '.join(names)}; say what it calls the model (--model), "
                "or leave that server out; nothing was pruned"
            )
        for name, numbers in meant.items():
            yield asked_by_server(server.url, found[name].values(), numbers)


def _labelled(server: Server, model: str, labels: Sequence[str]) -> dict[str, int]:
    return {label: number for label in labels if (number := server.labelled(model, label)) is not None}


def _open(stack: ExitStack, urls: Sequence[str], access: Access, timeout_s: float) -> Iterator[Server]:
    """Make a client for each single server behind the addresses."""
    for url in urls:
        address = parse_address(url)
        own = access_of(url, access, urls)
        if address.transport != "REST":
            yield from stack.enter_context(open_fleet([url], access_of=_always(own), timeout_s=timeout_s)).servers
            continue
        for endpoint in address.endpoints:
            client = stack.enter_context(Client(endpoint.url, timeout=timeout_s, **own))
            yield Server(url=endpoint.url, client=client)


def _always(access: Access) -> Any:
    def give(_: str) -> Mapping[str, Any]:
        return access

    return give


def _pin(base: Path, pin: str | None, unpin: str | None, *, dry_run: bool, as_json: bool) -> None:
    number = read_version(pin if pin is not None else unpin, base, "--pin" if pin is not None else "--unpin")
    if number is None:
        raise click.UsageError("a version is a number or a tag")
    if pin is not None and number not in {version.number for version in look(base)}:
        raise NotFound(f"{base} has no version {number}; nothing was pinned", version=number, attempts=0)
    if dry_run:
        pinned = (read_pins(base) | ({number} if pin is not None else set())) - ({number} if pin is None else set())
    else:
        with locked(base):
            pinned = change_pins(base, **{"add" if pin is not None else "remove": [number]})
    if as_json:
        print_json({"base_path": str(base), "dry_run": dry_run, "pinned": sorted(pinned)})
        return
    would = "would be " if dry_run else ""
    print(f"{base / PINNED}: {would}pinned {', '.join(map(str, sorted(pinned))) or 'nothing'}")


def _restore(base: Path, number: int, *, dry_run: bool, as_json: bool) -> None:
    folder = base / str(number)
    if dry_run:
        if number not in {each.number for each in list_trash(base)}:
            raise NotFound(f"version {number} is not in {base / TRASH}", version=number, attempts=0)
    else:
        folder = restore(base, number)
    if as_json:
        print_json({"base_path": str(base), "dry_run": dry_run, "restored": number, "folder": str(folder)})
    else:
        print(f"{folder}: {'would be ' if dry_run else ''}back from the trash")
