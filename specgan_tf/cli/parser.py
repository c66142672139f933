"""How flags are declared and read: errors of one line, numbers in a range."""

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn


@dataclasses.dataclass(frozen=True)
class Flag:
    """All there is to know of a flag but its name.

    Attributes:
      group: the title that --help lists it under.
      default: its value unless given; False makes it a switch.
      help: what it does.
      modes: the modes that use it.
      recorded: whether args.txt keeps it for the folder's later runs.
      type: text -> value; it raises argparse.ArgumentTypeError.
      choices: the values to choose from, or None.
      metavar: what --help calls its value.
      short: another name, with its dashes.
      one_of: flags with the same word here exclude each other.
    """

    group: str
    default: Any
    help: str
    modes: tuple[str, ...]
    recorded: bool
    type: Callable[[str], Any] = str
    choices: Sequence[Any] | None = None
    metavar: str | None = None
    short: str | None = None
    one_of: str | None = None

    @property
    def is_switch(self) -> bool:
        return isinstance(self.default, bool)

    def parse(self, text: str) -> Any:
        """The value that `text` in args.txt gives; ValueError if it gives none."""
        if self.is_switch and text in ("True", "False"):
            return text == "True"
        try:
            value = self.type(text)
        except argparse.ArgumentTypeError:
            raise ValueError from None
        if self.is_switch or (self.choices and value not in self.choices):
            raise ValueError
        return value


def group(title: str, modes: str, recorded: bool = True) -> Callable[..., Any]:
    """Return `flag(default, help, ...)`, which declares a flag of this group.

    It makes the field of a dataclass, whose name is the flag's; `flags_of` finds it.

    Args:
      modes: the modes that use these flags, between spaces, unless a flag has its own.
      recorded: as in `Flag`, unless a flag has its own.
    """

    def flag(default, help, modes=modes, recorded=recorded, **more):
        declared = Flag(title, default, help, tuple(modes.split()), recorded, **more)
        return dataclasses.field(default=default, metadata={"flag": declared})

    return flag


def flags_of(declared: type) -> dict[str, Flag]:
    """Name -> flag, of a dataclass whose fields declare them."""
    fields = dataclasses.fields(declared)
    return {f.name: f.metadata["flag"] for f in fields if "flag" in f.metadata}


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, and where nothing is abbreviated.

    No default of `add_flags` reaches the result: what is absent was not given.
    """

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        what, _, names = message.partition(": ")
        # A shell replaces a pattern by the names of files.
        files = what == "unrecognized arguments" and self.get_default("data_dir")
        if files and any(map(os.path.isfile, names.split(" "))):
            message += ". --data_dir takes a folder, not files"
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")

    def require_no_file(self, path: str) -> None:
        """Exit with an error if a file is where this folder has to be."""
        from specgan_tf.errors import InputError
        from specgan_tf.files import require_no_file  # numpy takes a while

        try:
            require_no_file(path)
        except InputError as e:
            self.error(str(e))

    def add_flags(self, flags: dict[str, Flag]) -> None:
        groups = {}
        for name, flag in flags.items():
            group = groups.get(flag.group)
            if group is None:
                group = groups[flag.group] = self.add_argument_group(flag.group)
            if flag.one_of and flag.one_of not in groups:
                groups[flag.one_of] = group.add_mutually_exclusive_group()
            self._add_flag(groups.get(flag.one_of, group), name, flag)

    def _add_flag(self, group, name, flag):
        names, help = [f"--{name}"], flag.help
        if flag.is_switch:
            # Of two that exclude each other, neither needs a --no- form.
            how = "store_true" if flag.one_of else argparse.BooleanOptionalAction
            how = {"action": how}
        else:
            how = {"type": flag.type, "choices": flag.choices, "metavar": flag.metavar}
            if flag.default is not None:
                help += f" (default: {flag.default})"
        if flag.short:
            names.append(flag.short)
            how["action"] = TwoNames
        group.add_argument(
            *names, dest=name, default=argparse.SUPPRESS, help=help, **how
        )


class TwoNames(argparse.Action):
    """Store the value of a flag with two names, unless both give different ones."""

    def __call__(self, parser, namespace, value, option_string=None):
        if (had := getattr(namespace, self.dest, value)) != value:
            names = " and ".join(self.option_strings)
            parser.error(f"{names} are one flag. Received: {had} and {value}")
        setattr(namespace, self.dest, value)


def number(
    kind: Callable[[str], Any], says: str, accepts: Callable[[Any], bool]
) -> Callable[[str], Any]:
    """Return a parser: text -> kind(text), refused unless `accepts` it.

    Args:
      says: what the value must be, for the error.
    """

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
