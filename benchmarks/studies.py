"""The studies of benchmarks.learning: what differs between them, and their texts."""

from typing import NamedTuple


class Study(NamedTuple):
    names: dict  # side -> its name; the side under test, and then what it is beside
    flags: dict  # side -> flags of its trainings alone
    document: str
    picture: str


STUDIES = {
    "original": Study(
        names={"here": "here", "original": "the original"},
        flags={},
        document="LEARNING.md",
        picture="learning.png",
    ),
    "float32": Study(
        names={"half": "half precision", "float32": "float32"},
        flags={"half": ["--mixed_precision"]},
        document="HALF_PRECISION.md",
        picture="half_precision.png",
    ),
}
