"""The house: who imports whom, where each of the reference's functions lives."""

import ast
import glob
import importlib
import os
import re

import pytest
from conftest import ROOT

from specgan_tf.cli import run as command
from specgan_tf.cli.modes import MODES

# Lines of each file at 40e85e8, and of its top-level functions.
REFERENCE = {
    "specgan.py": 178,
    "loader.py": 198,
    "train_specgan.py": 762,
    "backup.py": 38,
    "score.py": 164,
    "train.py": 340,
    "feats.py": 60,
    "sim.py": 61,
}
FUNCTIONS = {
    "specgan.py": {
        "conv2d_transpose": (4, 39),
        "SpecGANGenerator": (47, 111),
        "lrelu": (114, 115),
        "SpecGANDiscriminator": (122, 178),
    },
    "loader.py": {"decode_audio": (9, 65), "decode_extract_and_batch": (68, 198)},
    "train_specgan.py": {
        "t_to_f": (31, 45),
        "invert_spectra_griffin_lim": (51, 68),
        "f_to_t": (74, 84),
        "f_to_img": (90, 98),
        "train": (104, 295),
        "infer": (327, 381),
        "preview": (387, 460),
        "incept": (466, 569),
        "moments": (575, 613),
    },
    "backup.py": {},
    "score.py": {"inception_score": (8, 88)},
    "train.py": {
        "model": (9, 72),
        "record_to_xy": (75, 103),
        "eval": (106, 183),
        "infer": (186, 220),
        "train": (223, 258),
    },
    "feats.py": {},
    "sim.py": {"nn_dist": (9, 37)},
}
AROUND = {  # constants; flags and modes
    "specgan.py": [],
    "loader.py": [],
    "train_specgan.py": [(1, 30), (298, 326), (616, 762)],
    "backup.py": [(1, 38)],
    "score.py": [(91, 164)],
    "train.py": [(261, 340)],
    "feats.py": [(1, 60)],
    "sim.py": [(40, 61)],
}
HOMES = {
    "specgan.py": "specgan_tf.specgan",
    "loader.py": "specgan_tf.loader",
    "t_to_f": "specgan_tf.spectral",
    "invert_spectra_griffin_lim": "specgan_tf.spectral",
    "f_to_t": "specgan_tf.spectral",
    "f_to_img": "specgan_tf.spectral",
    "score.py": "specgan_tf.eval.score",
    "train.py": "specgan_tf.eval.classifier",
    "sim.py": "specgan_tf.eval.score",
}
# record_to_xy reads what has no maker; `fit.Training` does what the others do.
NOT_PORTED = {("train.py", name) for name in "record_to_xy eval infer train".split()}

# Each room, and the rooms that its modules may import. The ground floor is "".
ROOMS = {
    "": {""},
    "loader": {"", "loader"},
    "weights": {"", "weights"},
    "eval": {"", "loader", "weights", "eval"},
    "export": {"", "export"},
    "report": {"", "loader", "weights", "eval", "report"},
    "crosscheck": {"", "loader", "weights", "eval", "export", "crosscheck"},
    "cli": {"", "loader", "weights", "eval", "export", "report", "cli"},
    "serving": {"serving"},
}
# Modules that stand alone: they run where the package, or TensorFlow 2, is not.
ALONE = {"export.artefact", "crosscheck.original", "serving.protocol"}
# `import specgan_tf` opens these.
PUBLIC = {"errors", "gan", "generate", "loader.decode", "specgan", "spectral"}
PUBLIC |= {"weights.checkpoint", "weights.folders"}
MOST_LINES = 400
LONGER = {"crosscheck.original"}  # one file, for a Python 3.6 to run
PACKAGE = "specgan_tf/*.py", "specgan_tf/*/*.py"
LAZY = {
    "librosa",
    "soundfile",
    "soxr",
    "resampy",
    "scipy",
    "sklearn",
    "matplotlib",
    "ai_edge_litert",
}


def sources(*patterns):
    for pattern in patterns:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
            with open(path) as f:
                yield os.path.relpath(path, ROOT), f.read()


def imports(tree, top_only=False):
    """(module, imported names) of every import."""
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, [alias.name for alias in node.names]


def used_by():
    """Module -> what of the package it imports."""
    found = {}
    for path, source in sources(*PACKAGE):
        used = set()
        for name, members in imports(ast.parse(source)):
            if name.partition(".")[2] in ROOMS:
                used |= {f"{name}.{m}".partition(".")[2] for m in members}
            elif name.startswith("specgan_tf."):
                used.add(name.partition(".")[2])
        _, _, module = path.removesuffix(".py").partition(os.sep)
        found[module.replace(os.sep, ".")] = used
    modules = {m.removesuffix(".__init__") for m in found}
    return {m: {u for u in used if u in modules} for m, used in found.items()}


def room_of(module):
    return module.rpartition(".")[0] if module not in ROOMS else module


def test_imports_follow_the_levels():
    for path, source in sources(*PACKAGE):
        tree = ast.parse(source)
        scripts = {n for n, _ in imports(tree)} & {"train_specgan", "export"}
        assert not scripts, f"{path} imports {scripts}"
        lazy = {n.split(".")[0] for n, _ in imports(tree, top_only=True)} & LAZY
        assert not lazy, (
            f"{path} imports {lazy} at the top: inside the function, please"
        )
    found = used_by()
    assert {room_of(module) for module in found} == ROOMS.keys()
    for module, used in found.items():
        if module in ("__init__", "serve"):  # serve puts a model into the server
            assert used <= PUBLIC | {"serving.__main__", "serving.versions"}, module
            continue
        rooms = {room_of(other) for other in used}
        assert rooms <= ROOMS[room_of(module)], f"{module}: {rooms}"
        assert module not in ALONE or not used, f"{module}: {used}"


def test_imports_run_in_no_circle():
    found = used_by()
    left = {module: used - {module} for module, used in found.items()}
    while free := {m for m, used in left.items() if not used & left.keys()}:
        left = {m: used for m, used in left.items() if m not in free}
    assert not left, f"these import each other: {sorted(left)}"


def test_no_module_is_long():
    for path, source in sources(*PACKAGE):
        module = ".".join(path.removesuffix(".py").split(os.sep)[1:])
        lines = len(source.splitlines())
        assert lines <= MOST_LINES or module in LONGER, f"{path}: {lines} lines"


def test_generating_imports_nothing_for_training():
    """A user waits for each import."""
    found, reached, new = used_by(), set(), {"cli.generate"}
    while new:
        reached |= new
        new = set().union(*(found[module] for module in new)) - reached
    assert "weights.checkpoint" in reached
    assert not reached & {"callbacks", "gan", "page"}
    assert not {room_of(m) for m in reached} & {"export", "loader", "report", "serving"}


def test_a_mode_is_a_function_of_its_name():
    """No other function is one; train_specgan.py finds them all."""
    found = {
        node.name: os.path.basename(path)[:-3]
        for path, source in sources("specgan_tf/cli/*.py")
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("run_")
    }
    modes = MODES
    assert found == {f"run_{mode}": module for mode, module in modes.items()}
    for mode in modes:
        assert command.function_of(mode).__name__ == f"run_{mode}"


# The loader makes these itself; their docstrings describe the arguments.
UNTYPED = {"Cache", "Cut", "Decoder", "Mix", "Samples", "Slices"}


def test_public_functions_and_constructors_have_type_hints():
    count = 0
    for path, source in sources(*PACKAGE):
        if path.endswith("original.py"):  # it runs under Python 3.6
            continue
        tree = ast.parse(source)
        owners = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
        for owner, node in ((o, node) for o in owners for node in o.body):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            name, constructs = getattr(owner, "name", ""), node.name == "__init__"
            # Keras calls on_...: their arguments are its own.
            if name.startswith("_") or re.match(r"_(?!_init__)|on_", node.name):
                continue
            if constructs and name in UNTYPED:
                continue
            count += 1
            args, own = node.args.args + node.args.kwonlyargs, ("self", "cls")
            bare = [a.arg for a in args if not a.annotation and a.arg not in own]
            hinted = constructs or node.returns
            assert hinted and not bare, f"{path}: {name}.{node.name}, {bare}"
    assert count > 550


def test_argparse_lives_in_commands():
    commands = {"flags", "help", "parser", "export"}
    for path, source in sources(*PACKAGE):
        names = {name for name, _ in imports(ast.parse(source))}
        room, _, module = path.removesuffix(".py").rpartition(os.sep)
        command = room == "specgan_tf/cli" and module in commands
        command |= module == "__main__"  # python -m, each
        assert command or "argparse" not in names, path


OURS = *PACKAGE, "*.py"


def citations(text):
    """(file, first, last) of every reference to lines of the original."""
    for file, ranges in re.findall(r"\b(\w+\.py)(?::|`? )(\d[\d, -]*)", text):
        for part in re.findall(r"\d+(?:-\d+)?", ranges) if file in REFERENCE else ():
            first, _, last = part.partition("-")
            yield file, int(first), int(last or first)


def test_line_references_are_of_something():
    """In range, and within a function, or the constants or flags around them."""
    count = 0
    for path, source in sources(*OURS, "tests/*.py", "README.md", "docs/*.md"):
        for file, first, last in citations(source):
            assert 1 <= first <= last <= REFERENCE[file], (path, file, first, last)
            spans = [*FUNCTIONS[file].values(), *AROUND[file]]
            within = any(a <= last and first <= b for a, b in spans)
            assert within, (path, file, first, last)
            count += 1
    assert count > 100


def test_every_mark_says_why_and_where():
    """`original:` and `differs:` come with a reason, and lines of the reference in the
    function or class they stand in."""
    marks = 0
    for path, source in sources(*OURS):
        lines = source.splitlines()
        blocks = [
            (node.lineno, node.end_lineno)
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        ]
        for number, line in enumerate(lines, 1):
            if not (found := re.search(r"\b(original|differs): (.*)", line)):
                continue
            marks += 1
            assert len(found[2].split()) >= 3, (path, number)
            inside = [b for b in blocks if b[0] <= number <= b[1]]
            first, last = inside[0] if inside else (number - 5, number + 5)
            near = "\n".join(lines[max(0, first - 3) : last])
            assert [*citations(near)], (path, number, line)
    assert marks > 30


@pytest.mark.parametrize("file", FUNCTIONS)
def test_every_function_has_a_home_that_names_its_lines(file):
    for name, (first, last) in FUNCTIONS[file].items():
        if (file, name) in NOT_PORTED:
            continue
        if name in MODES:
            home = command.function_of(name)
        else:
            module = importlib.import_module(HOMES.get(name) or HOMES[file])
            home = getattr(module, name)
        cited = re.findall(rf"{re.escape(file)}:([\d, -]+)\]", home.__doc__)
        cited += re.findall(r"(\d+)-(\d+)", " ".join(cited))
        spans = [tuple(map(int, c)) for c in cited if isinstance(c, tuple)]
        single = [(int(c), int(c)) for c in cited if isinstance(c, str) and c.isdigit()]
        overlap = [a for a, b in spans + single if a <= last and b >= first]
        assert overlap, f"{name} of {file}:{first}-{last} is cited as {cited}"


def defined_in(text):
    """Names that the files between backticks in `text` define."""
    found = set()
    for path in re.findall(r"`(specgan_tf/[\w/]+\.py)`", text):
        ((_, source),) = sources(path)
        nodes = ast.walk(ast.parse(source))
        found |= {
            n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)
        }
    return found


@pytest.mark.parametrize("file", FUNCTIONS)
def test_the_line_map_names_every_function(file):
    """And a file that defines it, or `NAME` in the file that has its work."""
    (_, text), *_ = sources("docs/PORTING.md")
    for name, (first, last) in FUNCTIONS[file].items():
        row = re.search(rf"\| `{file}` {first}-{last} \| `{name}` \| (.*) \|", text)
        assert row, name
        elsewhere = re.search("^not here|` in `", row[1])
        assert elsewhere or {name, f"run_{name}"} & defined_in(row[1]), name


def test_the_line_map_names_files_that_define_the_names():
    (_, text), *_ = sources("docs/PORTING.md")
    named = re.findall(r"`([\w.]+)` in (`specgan_tf/[\w/]+\.py`)", text)
    for name, file in named:
        assert {*name.split(".")} <= defined_in(file), (name, file)
    assert len(named) >= 5


def test_the_documents_list_every_difference():
    (_, readme), *_ = sources("docs/PORTING.md")
    listed = readme.partition("## What differs")[2].partition("\n## ")[0]
    for path, source in sources(*OURS):
        for said in re.split(r"\bdiffers: ", source)[1:]:
            paragraph = re.split(r"\n\s*\n|\"\"\"", said)[0]
            cited = re.search(r"\[(\w+\.py):(\d+)", paragraph)
            assert cited, f"{path}: which lines? {paragraph}"
            assert re.search(rf"`{cited[1]}` {cited[2]}\b", listed), (
                f"{path}: {cited[0]}"
            )


def test_links_between_documents_lead_somewhere():
    count = 0
    for path, text in sources("README.md", "docs/*.md"):
        for link in re.findall(r"\]\(([\w./-]+)\)", text):
            target = os.path.join(ROOT, os.path.dirname(path), link)
            assert os.path.exists(target), f"{path}: {link}"
            count += 1
    assert count > 2


def test_links_to_headings_lead_to_one():
    count = 0
    for path, text in sources("README.md", "docs/*.md"):
        for link, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", text):
            target = os.path.normpath(os.path.join(os.path.dirname(path), link))
            ((_, page),) = sources(target if link else path)
            headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
            slugs = [
                re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings
            ]
            assert anchor in slugs, f"{path}: {link}#{anchor}"
            count += 1
    assert count > 20


def test_lists_in_documents_are_whole():
    """What goes on in another line is indented: else it would end the list."""
    count = 0
    for path, text in sources("*.md", "docs/*.md", "specgan_tf/data/*/*.md"):
        text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for block in re.split(r"\n\s*\n", text):
            first, *rest = block.strip("\n").split("\n")
            if not re.match(r"\s*([-*]|\d+\.) ", first):
                continue
            count += 1
            for line in rest:
                assert re.match(r"\s|([-*]|\d+\.) ", line), f"{path}: {line}"
    assert count > 10


def test_sources_name_scripts_that_exist():
    """As a path from the repository's root, or from tests/."""
    count = 0
    for path, text in sources(*OURS, "tests/*.py", "benchmarks/*.py", ".ci/run"):
        for name in re.findall(r"(?<![\w./-])(?:[\w-]+/)+[\w-]+\.py\b", text):
            roots = [ROOT, os.path.join(ROOT, "tests")]
            roots = [r for r in roots if os.path.isdir(f"{r}/{name.split('/')[0]}")]
            there = [os.path.exists(os.path.join(r, name)) for r in roots]
            assert not roots or any(there), f"{path}: {name}"
            count += any(there)
    assert count > 5


def test_the_documents_name_tests_that_exist():
    defined = {
        node.name
        for _, source in sources("tests/*.py")
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }
    named = set()
    for _, text in sources("README.md", "docs/*.md"):
        named |= set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 15 and named <= defined, named - defined


def test_the_repo_speaks_of_the_project_alone():
    """No user document names the shared folder; its path is a test's business."""
    for path, source in sources("*.md", "docs/*.md", *OURS):
        assert "../shared" not in source, path
