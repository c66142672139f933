"""How much decoded sound may wait for its turn."""

import contextlib
import itertools
import threading

AHEAD = 128 << 20  # bytes: 35 minutes at 16 kHz


class Room:
    """Bounds the bytes that decoding threads hold together.

    Tasks are numbered in the order in which they are used. The first of those that are
    not done with never waits, so that there is no end to it however large its file is;
    the others wait while all hold more than `limit`.
    """

    def __init__(self, limit=None):
        self.limit = AHEAD if limit is None else limit
        self.held, self.numbers = {}, itertools.count()
        self.changed, self.closed = threading.Condition(), False

    def enter(self):
        """The number of a new task."""
        with self.changed:
            number = next(self.numbers)
            self.held[number] = 0
            return number

    def reserve(self, number, nbytes, ending=lambda: False):
        """Wait until a task may hold that many bytes in all.

        Raises:
          RuntimeError: nobody waits for its result any more.
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

    def leave(self, number):
        """A task is done with."""
        with self.changed:
            del self.held[number]
            self.changed.notify_all()

    @contextlib.contextmanager
    def closing(self):
        """At the end, let all go that wait."""
        try:
            yield self
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()
