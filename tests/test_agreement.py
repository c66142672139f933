"""benchmarks/agreement.py: what it counts, on figures and clips that are known."""

import numpy as np
import pytest
from scipy.io import wavfile

from benchmarks import agreement, sections
from specgan_tf.errors import InputError


def says(*digits, sure=0.9):
    """Probabilities [n, 10] that name these digits."""
    p = np.full([len(digits), 10], (1 - sure) / 9)
    p[np.arange(len(digits)), digits] = sure
    return p


def test_agreement_takes_the_same_digit_and_confidence():
    p = np.concatenate([says(1, 2, 3), says(4, sure=0.4), says(5, sure=0.5)])
    q = np.concatenate([says(1, 7, 3, 4), says(5, sure=0.5)])
    np.testing.assert_array_equal(
        agreement.agreement(p, q), [True, False, True, False, True]
    )


def test_figures():
    p, q = says(1, 2, 3, 3), says(1, 2, 3, 8)
    found = agreement.figures(p, q, third=np.array([1, -1, 3, 3]), y=np.array([1] * 4))
    assert found["clips"] == 4 and found["agreement"] == 0.75
    assert found["all three"] == 0.5 and found["agreed and right"] == 0.25
    assert found["right"] == {
        "classifier": 0.25,
        "voices": 0.25,
        "pocketsphinx": 0.25,
    }
    assert found["digits"] == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert "right" not in agreement.figures(p, q)


@pytest.mark.parametrize("three", [True, False])
def test_the_section_of_the_document(tmp_path, three):
    document = tmp_path / "SOUNDS.md"
    document.write_text("# Sounds\n\nBefore.\n")
    y, third = np.array([1, 2]), np.array([1, 5]) if three else None
    sets = {
        name: agreement.figures(
            says(1, 2), says(1, 2), third, y if name == "real" else None
        )
        for name in agreement.ROWS
    }
    found = {"step": 7, "voices": 640, "speakers": 43, "sets": sets}
    for _ in range(2):  # the second takes the place of the first
        sections.write(document, agreement.NAME, agreement.section(found))
    text = document.read_text()
    assert text.startswith("# Sounds\n\nBefore.\n\n<!-- benchmarks.agreement -->\n## ")
    assert text.endswith("<!-- end of benchmarks.agreement -->\n")
    assert text.count("## Agreement") == 1
    assert "640 digits of 43 synthetic voices" in text
    row = next(line for line in text.splitlines() if line.startswith("| real |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    right = ["100.0", "100.0", "50.0"] if three else ["100.0", "100.0"]
    assert cells == ["real", "2", *right, "100.0", "100.0"] + ["50.0"] * three
    assert ("pocketsphinx" in text) == three
    document.write_text(text + "<!-- benchmarks.agreement -->")
    with pytest.raises(InputError, match="must hold <!-- benchmarks.agreement --> and"):
        sections.write(document, agreement.NAME, "")


def tone(hertz, seconds=0.4):
    t = np.arange(int(16000 * seconds)) / 16000
    x = np.sin(2 * np.pi * hertz * t) * np.hanning(len(t))
    return np.pad(x, (0, 16384 - len(x))).astype(np.float32)


def test_the_second_recogniser_learns(tmp_path):
    """Two tones, from files; louder, quieter and a microphone's colour are the same."""
    for digit, hertz in ((3, 500), (8, 2000)):
        for i in range(8):
            x = tone(hertz * (1 + i / 100))
            wavfile.write(tmp_path / f"{digit}_me_{i}.wav", 16000, np.int16(30000 * x))
    x, y = agreement.read(str(tmp_path))
    assert x.shape == (16, 16384) and np.bincount(y)[[3, 8]].tolist() == [8, 8]
    assert len(agreement.read(str(tmp_path), r"_[01]\.wav$")[0]) == 4
    np.testing.assert_allclose(
        agreement.log_mel(x), agreement.log_mel(0.1 * x), atol=1e-3
    )
    varied = agreement.varied(x, np.random.RandomState(0))
    assert varied.shape == x.shape and varied.dtype == np.float32
    p = agreement.Voices(x, y, seeds=[0], epochs=15).probabilities(x)
    assert p.shape == (16, 10) and np.allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(p.argmax(axis=1), y)
    with pytest.raises(InputError, match=r"holds no file that 'none' matches"):
        agreement.read(str(tmp_path), "none")
    (tmp_path / "3_me_0.wav").rename(tmp_path / "three_me_0.wav")
    with pytest.raises(InputError, match=r"three_me_0\.wav must begin with a digit"):
        agreement.read(str(tmp_path))
