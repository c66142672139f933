"""A limit on the decoded sound that waits for its turn."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

AHEAD = 128 << 20  # bytes: 35 minutes at 16 kHz


class MemoryBudget:
    """Bounds the bytes that all decoding threads hold together.

    Tasks are numbered in the order in which their results are used. The first
    unfinished task never waits, however large its file is, so there is no deadlock. The
    other tasks wait while all together would hold more than `limit` bytes.
    """

    def __init__(self, limit: int | None = None):
        self.limit = AHEAD if limit is None else limit
        self.held, self.numbers = {}, itertools.count()
        self.changed, self.closed = threading.Condition(), False

    def enter(self) -> int:
        """Begin a task, and return its number."""
        with self.changed:
            number = next(self.numbers)
            self.held[number] = 0
            return number

    def reserve(
        self, number: int, nbytes: int, ending: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until a task may hold `nbytes` in all.

        Args:
          ending: returns True if the task should give up.

        Raises:
          RuntimeError: the result is no longer needed.
        """
        with self.changed:
            while not self.closed and not self._fits(number, nbytes):
                self.changed.wait(0.1)
                if ending():
                    break
            else:
                if not self.closed:
                    self.held[number] = nbytes
                    return
        raise RuntimeError("no longer wanted")

    def _fits(self, number, nbytes):
        others = sum(self.held.values()) - self.held[number]
        return number == min(self.held) or others + nbytes <= self.limit

    def leave(self, number: int) -> None:
        """End a task: its result is no longer held."""
        with self.changed:
            del self.held[number]
            self.changed.notify_all()

    @contextlib.contextmanager
    def closing(self) -> Iterator["MemoryBudget"]:
        """Yield this object; at the end, waiting tasks get a `RuntimeError`."""
        try:
            yield self
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()
