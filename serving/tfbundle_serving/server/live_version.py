"""A version that answers requests, and the count of those who are using it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .servable import Servable


class LiveVersion:
    """One AVAILABLE version; it stays loaded until everyone who holds it has let go.

    Attributes:
        model: Model name.
        version: Version number.
        servable: The loaded SavedModel.
    """

    __slots__ = ("_drained", "_holders", "_is_retired", "_lock", "model", "servable", "version")

    def __init__(self, model: str, version: int, servable: Servable) -> None:
        self.model = model
        self.version = version
        self.servable = servable
        self._lock = threading.Lock()
        self._holders = 0
        self._is_retired = False
        self._drained = threading.Event()

    def hold(self) -> bool:
        """Begin to use the version; False where it is being unloaded and must be looked up anew."""
        with self._lock:
            if self._is_retired:
                return False
            self._holders += 1
            return True

    def hold_again(self) -> None:
        """Add a holder while already holding, which cannot fail."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """End what `hold` began."""
        with self._lock:
            self._holders -= 1
            is_last = self._is_retired and self._holders == 0
        if is_last:
            self._drained.set()

    def retire(self) -> None:
        """Let nobody begin to use the version any more."""
        with self._lock:
            self._is_retired = True
            is_free = self._holders == 0
        if is_free:
            self._drained.set()

    def wait_drained(self, timeout_s: float | None = None) -> bool:
        """Wait until nobody uses a retired version; False where that takes longer than allowed."""
        return self._drained.wait(timeout_s)

    def __str__(self) -> str:
        """Name the version in a message."""
        return f"{self.model} version {self.version}"
