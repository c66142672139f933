"""How flags are read: errors of one line, numbers in a range, nothing abbreviated."""

import argparse
import functools
import os


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, and which knows its defaults.

    No default reaches the result: there, what is absent was not given.
    """

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)
        self.defaults, self.types, self.choices, self.modes = {}, {}, {}, {}
        self.recorded = set()

    def error(self, message):
        what, _, names = message.partition(": ")
        # A shell puts the names of files in the place of a pattern.
        files = what == "unrecognized arguments" and "data_dir" in self.defaults
        if files and any(map(os.path.isfile, names.split(" "))):
            message += ". --data_dir takes a folder, not files"
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")

    def group(self, title, modes, recorded=True):
        """`flag` for a new group; modes and recorded are its flags' defaults."""
        group = self.add_argument_group(title)
        return functools.partial(self.flag, group, modes=modes, recorded=recorded)

    def one_of(self, flag):
        """`flag`, for flags of its group that exclude each other."""
        group = flag.args[0].add_mutually_exclusive_group()
        return functools.partial(self.flag, group, **flag.keywords)

    def flag(
        self, group, name, default, help, modes, recorded=True, short=None, **kwargs
    ):
        """Declare a flag: all there is to know of it.

        Args:
          group: the argparse group to add it to.
          name: with its dashes.
          default: False makes it a switch, with a --no- form.
          help: what it does.
          modes: the modes that use it, between spaces.
          recorded: whether args.txt keeps it for the folder's later runs.
          short: another name.
          **kwargs: as `argparse` takes them: type, choices, metavar, action.
        """
        dest = name.removeprefix("--")
        self.defaults[dest], self.modes[dest] = default, modes.split()
        if recorded:
            self.recorded.add(dest)
        self.types[dest] = kwargs.get("type", str)
        self.choices[dest] = kwargs.get("choices")
        if isinstance(default, bool):
            self.types[dest] = boolean
            kwargs.setdefault("action", argparse.BooleanOptionalAction)
        elif default is not None:
            help += f" (default: {default})"
        names = [name]
        if short:
            names, kwargs["action"] = [name, short], TwoNames
        kwargs |= {"dest": dest, "default": argparse.SUPPRESS, "help": help}
        group.add_argument(*names, **kwargs)

    def parse_recorded(self, name, text):
        """The value that `text` gives a flag; ValueError if it gives none."""
        try:
            value = self.types[name](text)
        except (KeyError, argparse.ArgumentTypeError):
            raise ValueError from None
        if self.choices[name] and value not in self.choices[name]:
            raise ValueError
        return value


class TwoNames(argparse.Action):
    """Stores, but not one value by one name and another by the other."""

    def __call__(self, parser, namespace, value, option_string=None):
        if (had := getattr(namespace, self.dest, value)) != value:
            names = " and ".join(self.option_strings)
            parser.error(f"{names} are the same; which is it: {had} or {value}?")
        setattr(namespace, self.dest, value)


def number(kind, says, accepts):
    def parse(text):
        try:
            value = kind(text)
            if accepts(value):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"must be {says}. Received: {text!r}")

    return parse


positive = number(int, "a whole number of at least 1", lambda n: n >= 1)
count = number(int, "a whole number of at least 0", lambda n: n >= 0)
integer = number(int, "a whole number", lambda n: True)
seed32 = number(int, "a whole number in [0, 2^31)", lambda n: 0 <= n < 2**31)
log_eps = number(float, "in [1e-10, 1]", lambda e: 1e-10 <= e <= 1.0)
clip_nstd = number(float, "in [1, 20]", lambda n: 1.0 <= n <= 20.0)
above_0 = number(float, "a number above 0", lambda n: 0.0 < n < 1e9)
shard = number(
    lambda text: tuple(map(int, text.split("/"))),
    "I/N, as 1/8 to 8/8",
    lambda s: len(s) == 2 and 1 <= s[0] <= s[1],
)
ratio = number(float, "in [0, 1)", lambda r: 0.0 <= r < 1.0)
two_or_more = number(int, "a whole number of at least 2", lambda n: n >= 2)
stride = number(float, "in (0, 2]", lambda s: 0.0 < s <= 2.0)
share = number(float, "in (0, 1]", lambda t: 0.0 < t <= 1.0)
sheet = number(
    lambda text: tuple(map(int, text.split("x"))),
    "ROWSxCOLUMNS, each at least 2, as 5x5",
    lambda s: len(s) == 2 and min(s) >= 2,
)


def boolean(text):
    return {"True": True, "False": False}[text]
