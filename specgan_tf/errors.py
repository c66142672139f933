"""The error for what a user can mend."""


class InputError(ValueError):
    """A file or value from the user is wrong.

    The message is one line: what is wrong, which file or value, and what to do.
    """
