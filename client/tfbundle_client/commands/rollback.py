"""`tfbundle rollback`."""

from __future__ import annotations

from pathlib import Path

import click

from tfbundle_serving.apis.models_config_edit import find_model

from ..pruning.trash import list_trash
from ..rollout.base_paths import look
from ..rollout.history import read_history
from ..rollout.preparation import Settings
from ..rollout.promotion import Promotion
from ..rollout.rollback import ROLLBACK, check_there, choose_target
from .options import Access, model_argument
from .promote import across_devices_option, label_option, run, skip_parity_option
from .rollout_options import failing_as_json, find_number, opened, repeated, rollout_options, say


@click.command()
@model_argument
@label_option
@click.option("--to", metavar="NUMBER|TAG", help="Go to this version.  [default: the one before the last promotion]")
@click.option(
    "--keep-previous",
    is_flag=True,
    help="Keep the version loaded that the label leaves; callers without a label reach it, if it is the highest.",
)
@skip_parity_option
@across_devices_option
@rollout_options
def rollback(
    model: str,
    label: str,
    to: str | None,
    keep_previous: bool,
    skip_parity: bool,
    across_devices: bool,
    servers: tuple[str, ...],
    config: Path | None,
    base_path: Path | None,
    timeout: float,
    unload_others: bool,
    dry_run: bool,
    access: Access,
    as_json: bool,
) -> None:
    """Let a label of MODEL mean the version that it meant before the last promotion.

    The history file beside the models.config tells which that is. Called twice it goes back once; further back goes
    --to. The version that the label leaves is unloaded, so that callers without a label leave it, too.
    """
    with (
        failing_as_json(as_json, model),
        opened(config, servers, access, timeout_s=timeout, dry_run=dry_run) as (file, fleet),
    ):
        records = read_history(file.path)
        models = file.read_models()
        entry = find_model(models, model, file.path)
        seen = look(models, model, base_path)[model]
        there = None if seen.versions is None else sorted(seen.versions)
        if to is None:
            target = choose_target(records, model, label, entry.labels.get(label), there or [])
        else:
            target = find_number(to, file, model, base_path)
        trash = {each.number for each in list_trash(Path(seen.path))} if seen.path else set[int]()
        check_there(target, model, there, records, trash, entry.labels.get(label))
        promotion = Promotion(
            model=model,
            version=target,
            label=label,
            settings=Settings(
                command=ROLLBACK,
                timeout_s=timeout,
                base_path=base_path,
                unload_previous=not keep_previous,
                unload_others=unload_others,
            ),
            is_proven=not skip_parity,
            across_devices=across_devices,
        )
        if to is None and target == entry.labels.get(label):
            say(f"label {label} of {model} is back at version {target} already; further back goes --to VERSION")
        options = repeated(servers, config, base_path)
        run(file, fleet, promotion, options, dry_run=dry_run, as_json=as_json)
