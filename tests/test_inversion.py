"""The measures of benchmarks/inversion.py, by sounds whose values are known."""

import json
import sys

import numpy as np
import pytest
from conftest import DRUMS, ROOT

from specgan_tf.errors import InputError

sys.path.insert(0, ROOT)
from benchmarks import inversion


def noise(n):
    return np.random.RandomState(0).randn(n, 16384) * 0.2


def test_tremolo():
    t = np.arange(16384)
    for depth, low, high in ((0.0, -6, 6), (0.5, 15, 60)):
        x = noise(8) * (1 + depth * np.cos(2 * np.pi * t / 128))
        assert low < inversion.tremolo(x) < high
        fading = x * np.exp(-t / 3000)  # a hit's decay does not hide it
        assert low < inversion.tremolo(fading) < high


def test_distances():
    x = noise(3).astype(np.float32)
    assert inversion.spectral_convergence(x, x, False) == 0
    assert inversion.log_spectral_distance(x, x) == 0
    error = inversion.spectral_convergence(1.1 * x, x, True)
    np.testing.assert_allclose(error, 0.1, rtol=1e-3)
    np.testing.assert_allclose(
        inversion.log_spectral_distance(10 ** (6 / 20) * x, x), 6, rtol=1e-3
    )
    half = x.copy()
    half[:, 8000:] = 0  # where there is no sound, nothing is counted
    louder = half * 10 ** (6 / 20)
    np.testing.assert_allclose(
        inversion.log_spectral_distance(louder, half), 6, rtol=0.05
    )


def test_attacks():
    x = noise(4)
    x[0] = 0
    x[1, :16] = 0
    assert inversion.begins_at_once(x).tolist() == [False, False, True, True]
    np.testing.assert_allclose(inversion.attack(x * 0.1, x), -20)
    assert inversion.attack(x[:2], x[:2]) is None


def test_the_command(tmp_path, monkeypatch):
    """A row each, and a section that replaces the one before it alone."""
    monkeypatch.setattr(inversion, "invert", lambda moments, X, **how: (x, 1.5))
    x = inversion.read_sounds(DRUMS, 3)
    assert x.shape == (3, 16384) and np.abs(x).max() <= 1
    document, found = tmp_path / "S.md", tmp_path / "i.json"
    argv = ["--clips", "3", "--json", str(found), "--document", str(document)]
    inversion.main(argv)
    rows = json.loads(found.read_text())["rows"]
    assert len(rows) == 2**6 + 4
    for row in rows:  # nothing is lost by an inversion that is perfect
        assert row["spectral convergence"] == row["log-spectral distance, dB"] == 0
        assert row["first 16 samples, dB"] == 0
    at = {(row["log_eps"], row["clip_nstd"]): row for row in rows}
    clipped = {key: row["clipped, %"] for key, row in at.items()}
    assert clipped[1e-3, 3] > 2 * clipped[1e-3, 5] and clipped[1e-3, 3] > 1
    assert clipped[1e-6, 5] <= clipped[1e-6, 3] < clipped[1e-3, 3]
    six = {key: row["6 dB are"] for key, row in at.items()}
    assert six[1e-3, 3] > 1.5 * six[1e-6, 3]
    np.testing.assert_allclose(six[1e-3, 5] / six[1e-3, 3], 3 / 5)
    text = document.read_text()
    assert text.startswith("# Sounds\n") and text.count("| dual | 0.99 | 32 |") == 1
    document.write_text(text.replace("# Sounds", "# Mine") + "\nAnd this.\n")
    inversion.main(argv)
    again = document.read_text()
    assert again == text.replace("# Sounds", "# Mine") + "\nAnd this.\n"
    document.write_text(text + text)
    with pytest.raises(InputError, match="once each"):
        inversion.main(argv)
