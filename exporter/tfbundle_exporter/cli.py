"""The room's sub-commands: `tfbundle export`, those that read what is there, and those that send and fetch it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .cli_export import export
from .reading.cli import commands as reading_commands
from .transfer.cli import pull_command, push_command


def main(argv: Sequence[str]) -> int:
    """Run one of the room's sub-commands.

    Args:
        argv: The sub-command's name and its arguments.

    Returns:
        The exit code; errors are raised.
    """
    return int(_commands.main(args=list(argv), prog_name="tfbundle", standalone_mode=False) or 0)


@click.group(commands=[export, *reading_commands.commands.values(), push_command, pull_command])
def _commands() -> None:
    """Turn models into version folders, read what is there, and bring it elsewhere."""
