"""Several files at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait


def do_all(do: Callable[[str], None], names: Iterable[str], *, jobs: int) -> None:
    """Call a function for each name, several at once; after a failure no further one begins.

    Raises:
        Exception: The first failure.
    """
    with ThreadPoolExecutor(jobs, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(do, name) for name in names]
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            future.cancel()
    for future in futures:
        if not future.cancelled():
            future.result()
