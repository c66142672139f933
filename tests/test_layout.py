"""The house: who imports whom, where each of the reference's functions lives."""

import ast
import glob
import importlib
import os
import re

import pytest
from conftest import ROOT

import train_specgan

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
    "score.py": "specgan_tf.score",
    "train.py": "specgan_tf.classifier",
    "sim.py": "specgan_tf.score",
}
# record_to_xy reads what has no maker; `classifier.Training` does what the others do.
NOT_PORTED = {("train.py", name) for name in "record_to_xy eval infer train".split()}

# Each module, and what of the package it may import.
MAY_IMPORT = {
    "files": set(),
    "tf1": set(),
    "kernels": set(),
    "spectral": {"tf1"},
    "loader.__init__": set(
        "loader.dataset loader.decode loader.errors loader.find loader.order "
        "loader.slices".split()
    ),
    "loader.errors": set(),
    "loader.sniff": set(),
    "loader.parts": set(),
    "loader.wav": {"loader.errors", "loader.parts"},
    "loader.mpeg": {"loader.errors", "loader.parts"},
    "loader.chains": {"loader.parts"},
    "loader.ffmpeg": {"loader.errors"},
    "loader.find": {"files", "loader.ffmpeg"},
    "loader.read": set(
        "files loader.chains loader.errors loader.ffmpeg loader.mpeg loader.sniff "
        "loader.wav".split()
    ),
    "loader.resample": {"files", "loader.errors"},
    "loader.decode": {"files", "loader.errors", "loader.read", "loader.resample"},
    "loader.cache": {"files", "loader.decode", "loader.errors"},
    "loader.decoder": {"files", "loader.cache", "loader.errors", "loader.slices"},
    "loader.order": set(),
    "loader.room": set(),
    "loader.slices": {"files", "loader.order", "loader.room"},
    "loader.dataset": {"files", "loader.decoder", "loader.order", "loader.slices"},
    "specgan": {"kernels", "tf1"},
    "losses": {"tf1"},
    "distribute": {"files"},
    "arguments": set(),
    "gan": {"arguments", "distribute", "kernels", "losses", "tf1"},
    "moments": {"files", "spectral"},
    "box": {"files", "moments", "specgan", "spectral"},
    "checkpoint": {"box", "files", "losses", "moments", "specgan", "tf1"},
    "generate": {"files", "spectral"},
    "classifier": {"checkpoint", "files", "loader", "spectral"},
    "score": {"classifier", "files", "spectral"},
    "tflite": {"files", "generate", "spectral"},
    "verify": {"files", "generate", "spectral"},
    "artefact": set(),
    "export": {"generate", "spectral", "tflite", "verify"},
    "health": set(),
    "page": set(),
    "callbacks": set("checkpoint generate health losses score spectral".split()),
    "report": set(
        "checkpoint files generate health loader moments page score spectral".split()
    ),
    "crosscheck.__init__": set(),
    "crosscheck.records": {"files", "gan", "specgan"},
    "crosscheck.kinks": {"crosscheck.records", "specgan"},
    "crosscheck.stages": set(
        "crosscheck.kinks crosscheck.records export loader moments spectral".split()
    ),
    "crosscheck.derivative": {"crosscheck.records", "specgan"},
    "crosscheck.iterations": {"checkpoint", "crosscheck.kinks", "spectral"},
    "crosscheck.training": set(
        "checkpoint crosscheck.derivative crosscheck.iterations crosscheck.kinks "
        "crosscheck.records losses".split()
    ),
    "crosscheck.replay": set(
        "crosscheck.derivative crosscheck.records crosscheck.stages "
        "crosscheck.training files".split()
    ),
    "crosscheck.matrix": set(
        "checkpoint crosscheck.iterations crosscheck.records files losses moments "
        "specgan spectral".split()
    ),
    "crosscheck.table": {"files"},
    "crosscheck.__main__": set(
        "crosscheck.matrix crosscheck.records crosscheck.replay crosscheck.table "
        "files losses specgan".split()
    ),
    "crosscheck.original": set(),  # runs alone, under TensorFlow 1
    "serve": {"serving.__main__"},
    # It runs where the package is not: its own modules it imports relatively.
    "serving.__init__": set(),
    "serving.protocol": set(),
    "serving.batching": set(),
    "serving.versions": set(),
    "serving.connections": set(),
    "serving.bodies": set(),
    "serving.origins": set(),
    "serving.app": set(),
    "serving.__main__": set(),
    # The modes of train_specgan.py, which no other module knows.
    "modes.__init__": set(),
    "modes.settings": set(
        "box checkpoint files losses moments specgan spectral".split()
    ),
    "modes.data": set(
        "checkpoint files loader modes.settings moments spectral".split()
    ),
    "modes.generate": set(
        "checkpoint files generate health modes.settings spectral".split()
    ),
    "modes.train": set(
        "callbacks checkpoint distribute files gan kernels loader modes.data "
        "modes.settings moments specgan spectral".split()
    ),
    "modes.follow": set(
        "checkpoint files generate modes.generate modes.settings spectral".split()
    ),
    "modes.export": set(
        "checkpoint export files generate modes.generate modes.settings moments "
        "verify".split()
    ),
    "modes.score": set(
        "checkpoint files generate modes.data modes.follow modes.generate "
        "modes.settings score spectral".split()
    ),
    "modes.classifier": {"classifier", "files", "loader", "modes.data", "score"},
    "modes.report": {"checkpoint", "files", "modes.data", "modes.settings", "report"},
    "__init__": {"checkpoint", "gan", "specgan"},
}
PACKAGE = "specgan_tf/*.py", "specgan_tf/*/*.py"
LAZY = {
    "librosa",
    "soundfile",
    "soxr",
    "resampy",
    "scipy",
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
            if name in ("specgan_tf", "specgan_tf.loader", "specgan_tf.modes"):
                used |= {f"{name}.{m}".partition(".")[2] for m in members}
            elif name.startswith("specgan_tf."):
                used.add(name.partition(".")[2])
        _, _, module = path.removesuffix(".py").partition(os.sep)
        found[module.replace(os.sep, ".")] = used
    return found


def test_who_imports_whom():
    for path, source in sources(*PACKAGE):
        tree = ast.parse(source)
        scripts = {n for n, _ in imports(tree)} & {"train_specgan", "export"}
        assert not scripts, f"{path} imports {scripts}"
        lazy = {n.split(".")[0] for n, _ in imports(tree, top_only=True)} & LAZY
        assert not lazy, (
            f"{path} imports {lazy} at the top: inside the function, please"
        )
    found = used_by()
    assert found.keys() == MAY_IMPORT.keys()
    for module, used in found.items():
        assert used <= MAY_IMPORT[module], f"{module}: {used - MAY_IMPORT[module]}"


def test_what_makes_sound_starts_without_what_trains():
    """A user waits for each import."""
    found, reached, new = used_by(), set(), {"modes.generate"}
    while new:
        reached |= new
        new = set().union(*(found[module] for module in new)) - reached
    assert "checkpoint" in reached
    unneeded = {"callbacks", "export", "gan", "loader", "page", "score", "verify"}
    assert not reached & unneeded


def test_a_mode_is_a_function_of_its_name():
    """No other function is one; train_specgan.py finds them all."""
    found = {
        node.name: os.path.basename(path)[:-3]
        for path, source in sources("specgan_tf/modes/*.py")
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("run_")
    }
    modes = train_specgan.MODES
    assert found == {f"run_{mode}": module for mode, module in modes.items()}
    for mode in modes:
        assert train_specgan.function_of(mode).__name__ == f"run_{mode}"


def test_argparse_lives_in_the_scripts():
    for path, source in sources(*PACKAGE):
        names = {name for name, _ in imports(ast.parse(source))}
        command = path.endswith("__main__.py")  # python -m, each
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
        if name in train_specgan.MODES:
            home = train_specgan.function_of(name)
        else:
            module = importlib.import_module(HOMES.get(name) or HOMES[file])
            home = getattr(module, name)
        cited = re.findall(rf"{re.escape(file)}:([\d, -]+)\]", home.__doc__)
        cited += re.findall(r"(\d+)-(\d+)", " ".join(cited))
        spans = [tuple(map(int, c)) for c in cited if isinstance(c, tuple)]
        single = [(int(c), int(c)) for c in cited if isinstance(c, str) and c.isdigit()]
        overlap = [a for a, b in spans + single if a <= last and b >= first]
        assert overlap, f"{name} of {file}:{first}-{last} is cited as {cited}"


@pytest.mark.parametrize("file", FUNCTIONS)
def test_the_readmes_line_map_names_every_function(file):
    (_, readme), *_ = sources("README.md")
    for name, (first, last) in FUNCTIONS[file].items():
        assert re.search(rf"`{file}` {first}-{last}\D.*`{name}`", readme), name


def test_the_readme_lists_every_difference():
    (_, readme), *_ = sources("README.md")
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
