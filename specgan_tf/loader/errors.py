"""The error that the loader raises for a single file."""


class UnreadableError(Exception):
    """This file cannot be used; other files can."""
