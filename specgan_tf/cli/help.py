"""`--help`, and docs/FLAGS.md: python -m specgan_tf.cli.help"""

import argparse

from specgan_tf.cli.flags import FLAGS, make_parser
from specgan_tf.cli.modes import ABOUT, ARGUMENTS, MODES


def overview(prog: str) -> str:
    """The text of `--help` without a mode: the modes, and how to see their flags."""
    lines = [f"usage: {prog} MODE [TRAIN_DIR] [--FLAG ...]", "", "modes:"]
    lines += [f"  {mode:12}{about}" for mode, about in ABOUT.items()]
    lines += ["", f"The flags of a mode: {prog} generate --help"]
    return "\n".join([*lines, "All flags of all modes: docs/FLAGS.md"]) + "\n"


def help_of(mode: str) -> str:
    """The text of `MODE --help`: the folders and flags that this mode takes."""
    parser, taken = make_parser(), ARGUMENTS[mode]
    for action in parser._actions:
        if action.dest not in FLAGS or mode not in FLAGS[action.dest].modes:
            action.help = argparse.SUPPRESS
    positionals = [a for a in parser._actions if a.dest in ("train_dir", "out_dir")]
    for action, (name, help) in zip(positionals, taken.items(), strict=False):
        action.metavar, action.help = name.strip("[]"), help
    parser.usage = f"{parser.prog} {mode} {' '.join(taken)} [--FLAG ...]"
    parser.description = f"{ABOUT[mode][0].upper()}{ABOUT[mode][1:]}."
    return parser.format_help()


def document() -> str:
    """The text of docs/FLAGS.md."""
    parser = make_parser()
    lines = [
        "# Flags",
        "",
        "Written by `python -m specgan_tf.cli.help > docs/FLAGS.md`.",
    ]
    lines += ["", "## Modes", "", "| | |", "|---|---|"]
    lines += [f"| `{mode}` | {about} |" for mode, about in ABOUT.items()]
    for group in parser._action_groups:
        flags = [a for a in group._group_actions if a.dest in FLAGS]
        if not flags:
            continue
        lines += ["", f"## {group.title}", "", "| flag | modes | |", "|---|---|---|"]
        for a in flags:
            names = ", ".join(f"`{n}`" for n in a.option_strings if "--no-" not in n)
            modes = [mode for mode in MODES if mode in FLAGS[a.dest].modes]
            listed = "all" if len(modes) == len(MODES) else ", ".join(modes)
            help = a.help.replace("|", "\\|")
            if a.choices:
                help += f"; one of {', '.join(map(str, a.choices))}"
            lines.append(f"| {names} | {listed or 'none'} | {help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
