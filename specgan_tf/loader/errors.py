"""What the loader raises for one file."""


class UnreadableError(Exception):
    """One file cannot be used; the others can."""
