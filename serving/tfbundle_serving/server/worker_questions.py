"""What workers were asked, until all of them have answered, died, or had their time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .worker_messages import Answer, Apply, Ask, ShowMetrics
from .worker_slot import Slot

#: Called with the answers, by the number of the worker; one that died or was too late has none.
Done = Callable[[dict[int, Any]], None]


@dataclass(slots=True)
class _Question:
    done: Done
    open: set[int]
    deadline: float | None
    answers: dict[int, Any] = field(default_factory=dict)


class Questions:
    """All questions that are open."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._questions: dict[int, _Question] = {}

    def ask(self, slots: Iterable[Slot], task: Apply | ShowMetrics, done: Done, timeout_s: float | None = None) -> None:
        """Ask some workers.

        Args:
            slots: Who is asked; where that is nobody, it is done at once.
            task: What is wanted.
            done: Called in the end.
            timeout_s: Seconds after which it is done without the rest; None = never.
        """
        number, asked = next(self._numbers), tuple(slots)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._questions[number] = _Question(done, {slot.number for slot in asked}, deadline)
        for slot in asked:
            slot.send(Ask(number, task))
        self._finish(number)

    def take(self, slot: Slot, answer: Answer) -> None:
        """Take an answer in; one that comes too late is dropped."""
        question = self._questions.get(answer.number)
        if question is not None:
            question.answers[slot.number] = answer.result
            question.open.discard(slot.number)
            self._finish(answer.number)

    def give_up(self, slot: Slot) -> None:
        """Expect no more answers from a worker that has died."""
        for number, question in list(self._questions.items()):
            question.open.discard(slot.number)
            self._finish(number)

    def deadlines(self) -> list[float]:
        """List when `end_late` has something to do, as time.monotonic() counts."""
        return [each.deadline for each in self._questions.values() if each.deadline is not None]

    def end_late(self) -> None:
        """Do without the answers that have had their time."""
        now = time.monotonic()
        for number, question in list(self._questions.items()):
            if question.deadline is not None and now >= question.deadline:
                question.open.clear()
                self._finish(number)

    def _finish(self, number: int) -> None:
        question = self._questions.get(number)
        if question is not None and not question.open:
            del self._questions[number]
            question.done(question.answers)
