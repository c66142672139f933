"""The error that the loader raises for a single file."""

from specgan_tf.errors import InputError


class UnreadableError(InputError):
    """This file cannot be used; other files can.

    Attributes:
      reason: what is wrong, without the file's name.
    """

    def __init__(self, reason: str, fp: str | None = None):
        super().__init__(reason if fp is None else f"{fp}: {reason}")
        self.reason = reason
