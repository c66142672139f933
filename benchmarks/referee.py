"""Is the cross-check's verdict right at every seed, for every size?

    python -m benchmarks.referee --original CHECKOUT --python PYTHON_WITH_TF1
        [--seeds 64,0-99] [--dims 2-8] [--errors] [--keep FOLDER]
    python -m benchmarks.referee --document

The first has the reference compute records of each seed and dim, and runs their checks:
none may fall short. With --errors it then puts every error of seeded_errors.py in
place, one at a time, on records of the options where it shows: each must be found out.
A case (a seed and a dim) takes about 10 seconds on two idle cores, with --errors about
10 minutes, so the whole with errors is a matter of days: take some seeds. Results go to
benchmarks/out/referee.json, case by case, and a second call goes on where the first was
stopped. The second writes them into docs/PARITY.md, under "Any seed".
"""

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
import time
from unittest import mock

import pytest
import tensorflow as tf

from benchmarks.seeded_errors import ERRORS
from specgan_tf.crosscheck import derivative, iterations, records, stages, training
from specgan_tf.crosscheck.matrix import Cell, compute, inputs
from specgan_tf.crosscheck.records import GOLDENS, Record
from specgan_tf.crosscheck.replay import load, run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.path.join(ROOT, "benchmarks", "out", "referee.json")
PARITY = os.path.join(ROOT, "docs", "PARITY.md")
HEAD = "## Any seed\n"


def usual(dim):
    """The command's own defaults, but for dim."""
    return Cell(5, dim, False, "zeros", 100, "wgan-gp")


def live(golden, dim):
    """(cell, name) of the live record of the kind and the options of a golden."""
    r = Record.read(os.path.join(GOLDENS, f"{golden}.npz"))
    loss = str(r.get("loss", "lsgan"))
    batchnorm, upsample = r.option("batchnorm", False), r.option("upsample", "zeros")
    cell = Cell(5, dim, batchnorm, upsample, 100, loss)
    if r.kind in ("spectral", "data"):
        return cell, r.kind
    if r.kind == "optimizer":
        return cell, f"optimizer_{loss}"
    both = r.kind in ("train", "derivative")
    return cell, f"{r.kind}_{f'{loss}_' * both}{cell.network}"


def asked(cells, seed, folder, wanted):
    """The records of `inputs` that are wanted, by name; no more is made than needed."""
    left = set(wanted)
    for name, arrays in inputs(cells, seed, folder):
        if name in left:
            yield name, arrays
        left.discard(name)
        if not left:
            return


def names_of(seed_first, dim):
    """Records of a case; what no dim changes is computed with a seed's first."""
    network = usual(dim).network
    names = [f"{kind}_{network}" for kind in ("model", "init", "infer")]
    names.append(f"train_wgan-gp_{network}")
    if seed_first:
        names += ["spectral", "data", "optimizer_wgan-gp"]
        names.append(f"train_resumed_wgan-gp_{network}")
    return names


@contextlib.contextmanager
def computed(args, cells, seed, wanted, keep=None):
    """The folder of these records; kept ones are used again."""
    if keep and os.path.isdir(keep):
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="referee-") as d:
        given = asked(cells, seed, os.path.join(d, "in"), wanted)
        folder = compute(args.original, args.python, given, d)
        if keep:
            os.makedirs(os.path.dirname(keep), exist_ok=True)
            os.rename(folder, keep)
        yield keep or folder


class Reused:
    """Networks and compiled iterations of one set of options, used for every seed."""

    def __init__(self):
        self.gans, self.iterations, self.pairs = {}, {}, {}
        self.build, self.replaying = training.build_gan, iterations.replaying

    def build_gan(self, r):
        fields = "dim kernel_len batchnorm upsample latent_dim loss disc_nupdates"
        key = tuple(str(r.get(field)) for field in fields.split())
        if key not in self.gans:
            gan = self.build(r)
            optimizers = [*gan.G_optimizer.variables, *gan.D_optimizer.variables]
            variables = [*gan.variables, *optimizers]
            self.gans[key] = gan, [(v, v.numpy()) for v in variables]
        gan, values = self.gans[key]
        for v, value in values:
            v.assign(value)
        if "checkpoint" not in r:
            for net in (gan.G, gan.D):
                records.assign(net, r, "init/")
        return gan

    def replaying_of(self, gan, left_by=None):
        if gan not in self.iterations:
            self.iterations[gan] = self.replaying(gan, left_by)
        return self.iterations[gan]

    def networks_of(self, r):
        """Networks whose variables the record sets; what they begin with is drawn."""
        if "draws" in r:
            return records.networks(r)
        key = str(records.options(r))
        if key not in self.pairs:
            self.pairs[key] = records.networks(r)
        return self.pairs[key]

    def __enter__(self):
        self.patches = contextlib.ExitStack()
        enter = self.patches.enter_context
        enter(mock.patch.object(training, "build_gan", self.build_gan))
        enter(mock.patch.object(stages, "networks", self.networks_of))
        enter(mock.patch.object(derivative, "networks", self.networks_of))
        enter(mock.patch.object(iterations, "replaying", self.replaying_of))

    def __exit__(self, *args):
        self.patches.close()


def judged(folder):
    """What the checks of a folder's records come to."""
    checks = [c for c in run(load(folder)) if c.bound is not None]
    shares = {}
    for c in checks:
        key = f"{c.stage}, {c.what}"
        if c.bound and c.error / c.bound > shares.get(key, 0):
            shares[key] = c.error / c.bound
    short = [f"{c.record}: {c.stage}, {c.what}" for c in checks if c.verdict == "FAIL"]
    across = max(
        (c.error for c in checks if c.what == "pre-activations across zero"), default=0
    )
    return {"checks": len(checks), "short": short, "shares": shares, "across": across}


def found_out(args, seed, dim):
    """Each error's name -> whether a check of its record falls short; and green: what
    falls short without an error."""
    where = {golden: live(golden, dim) for _, golden, _ in ERRORS}
    cells = list(dict.fromkeys(cell for cell, _ in where.values()))
    wanted = {name for _, name in where.values()}
    found = {}
    with computed(args, cells, seed, wanted) as folder:
        green = judged(folder)["short"]
        for error, golden, stage in ERRORS:
            path = os.path.join(folder, f"{where[golden][1]}.npz")
            with pytest.MonkeyPatch.context() as patch:
                error(patch)
                checks = run([Record.read(path)])
                caught = any(c.verdict == "FAIL" for c in checks)
            found[f"{error.__name__}, {golden}, {stage}"] = caught
    return found, green


def spans(text):
    """The numbers of a list as "64,99,0-9", in this order, each once."""
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(numbers))


def read():
    with contextlib.suppress(FileNotFoundError), open(RESULTS) as f:
        return json.load(f)
    return {"cases": {}, "errors": {}}


def write(results):
    os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
    with open(RESULTS, "w") as f:
        json.dump(results, f, indent=1)


def section(results):
    """The section of docs/PARITY.md."""
    cases, errors = results["cases"], results["errors"]
    seeds = sorted({int(key.split()[0]) for key in cases})
    dims = sorted({int(key.split()[1]) for key in cases})
    short = [s for c in cases.values() for s in c["short"]]
    shares = {}
    for c in cases.values():
        for what, share in c["shares"].items():
            shares[what] = max(share, shares.get(what, 0))
    nearest = sorted(shares.items(), key=lambda item: -item[1])[:5]
    tossed = sum(c["across"] > 0 for c in cases.values())
    checks = sum(c["checks"] for c in cases.values())
    lines = [
        HEAD,
        "Measured by `python -m benchmarks.referee`, which takes the seeds and sizes "
        f"that it is told; so far {len(cases)} cases, of seeds {seeds[0]} to "
        f"{seeds[-1]} and dim {dims[0]} to {dims[-1]}. Of {checks} checks "
        f"{len(short)} fall short. In {tossed} cases rounding put at least one unit on "
        "the other side of zero than in the reference. These errors take up the "
        "largest shares of their bounds:\n",
        *(f"- {what}: {share:.0%}" for what, share in nearest),
        "",
    ]
    if short:
        lines += ["What falls short:\n", *(f"- {s}" for s in short), ""]
    if errors:
        found = [caught for e in errors.values() for caught in e["found"].values()]
        missed = [
            f"{name} (seed and dim {key})"
            for key, e in errors.items()
            for name, caught in e["found"].items()
            if not caught
        ]
        lines += [
            f"Seeded errors: {sum(found)} of {len(found)} were found out, at seed and "
            f"dim {', '.join(errors)}.\n",
            *(f"- not found out: {m}" for m in missed),
        ]
    return "\n".join(lines).rstrip() + "\n"


def document():
    if not (results := read())["cases"]:
        sys.exit(f"error: {RESULTS} has no results: run it with --original first")
    with open(PARITY) as f:
        text = f.read()
    old = re.search(rf"{HEAD}.*?(?=^## )", text, re.DOTALL | re.MULTILINE)
    before, after = (
        (text[: old.start()], text[old.end() :])
        if old
        else text.partition("## Seven things")[::2]
    )
    after = after if old else "## Seven things" + after
    with open(PARITY, "w") as f:
        f.write(f"{before}{section(results)}\n{after}")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--original")
    p.add_argument("--python")
    p.add_argument("--seeds", type=spans, default=spans("0-99"))
    p.add_argument("--dims", type=spans, default=spans("2-8"))
    p.add_argument("--errors", action="store_true")
    p.add_argument("--keep", help="folder of records, to be used again")
    p.add_argument("--document", action="store_true", help="write docs/PARITY.md")
    args = p.parse_args()
    if args.document:
        return document()
    if not (args.original and args.python):
        p.error("--original and --python are needed")
    tf.get_logger().setLevel("ERROR")
    results = read()
    for dim in args.dims:
        with Reused():
            for seed in args.seeds:
                key, began = f"{seed} {dim}", time.monotonic()
                if key in results["cases"]:
                    continue
                keep = args.keep and os.path.join(args.keep, f"seed{seed}_dim{dim}")
                done = {case.split()[0] for case in results["cases"]}
                wanted = names_of(str(seed) not in done, dim)
                with computed(args, [usual(dim)], seed, wanted, keep) as folder:
                    results["cases"][key] = judged(folder)
                write(results)
                short = results["cases"][key]["short"]
                print(key, f"{time.monotonic() - began:.0f} s", short, flush=True)
        for seed in args.seeds if args.errors else ():
            key = f"{seed} {dim}"
            if key in results["errors"]:
                continue
            found, green = found_out(args, seed, dim)
            results["errors"][key] = {"found": found, "short": green}
            write(results)
            missed = [name for name, caught in found.items() if not caught]
            print(key, f"{len(found)} errors; missed {missed}", green, flush=True)
    wrong = [c["short"] for c in results["cases"].values() if c["short"]]
    wrong += [e for e in results["errors"].values() if not all(e["found"].values())]
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
