"""What is being done right now, for whoever waits: log lines below INFO that a terminal shows while the step lasts."""

from __future__ import annotations

import logging

#: Above DEBUG, which is for us, and below INFO, which is for what was done.
STEP = 15
logging.addLevelName(STEP, "STEP")


def begin(logger: logging.Logger, text: str, *values: object) -> None:
    """Say that a step begins that may take a while.

    Args:
        logger: Of the module that takes the step.
        text: What is done, as "loading the model", with % places for values.
        *values: What stands there.
    """
    logger.log(STEP, text, *values)
