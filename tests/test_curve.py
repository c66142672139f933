"""benchmarks/curve.py: hours, checkpoints and the table, of figures that are given."""

import argparse

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import curve


def test_hours_are_those_of_a_machine_that_does_little_else():
    """Two runs at 4 steps a second; other work halves it in most of the first."""
    slow = np.array([0, 120, 240, 360]), np.array([0.0, 60, 120, 180])
    fast = (
        np.array([360, 600, 840, 1080, 1320]),
        np.array([900.0, 960, 1020, 1080, 1140]),
    )
    rate = curve.rate([slow, fast])
    assert rate == 4
    assert curve.hours(14400, {"rate": rate}) == 1
    assert curve.rate([]) is None and curve.hours(5, {"rate": None}) is None


def test_summaries_of_a_folder(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        for step in (0, 3, 3, 8):
            tf.summary.scalar("D_loss", 1.0, step)
    writer.close()
    ((steps, seconds),) = curve.recorded(tmp_path)
    assert steps.tolist() == [3, 8] and len(seconds) == 2
    assert seconds[0] <= seconds[1]


@pytest.mark.parametrize("rate", [2.0, None])
def test_the_table_and_the_picture(tmp_path, rate):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    scores = {"frechet_log_mel": 300.0, "log_spectral_distance": 12.0}
    judged = scores | {"inception_score": 3.5}
    steps = {7200: judged, 14400: judged | {"inception_score": 4.25}}
    found = {"drums": {"rate": rate, "clips": 9, "steps": steps, "real": judged}}
    text = curve.section(found, "curve.png")
    hours = "2.00" if rate else ""
    assert f"| 14400 | {hours} | 4.25 | 300.00 | 12.00 |" in text
    assert "| real |  | 3.50 | 300.00 | 12.00 |" in text
    assert ("drums (2.0 steps a second):" in text) == bool(rate)
    found["digits"] = found["drums"] | {"steps": {5: scores}, "real": scores}
    assert "| 5 | 0.00 | 300.00 |" in curve.section(found, "").replace(
        "|  |", "| 0.00 |"
    )
    curve.draw(found, tmp_path / "curve.png")
    image = tf.io.decode_png((tmp_path / "curve.png").read_bytes())
    assert min(image.shape[:2]) > 200


def test_arguments():
    assert curve.named("drums=a=b") == ("drums", "a=b")
    with pytest.raises(argparse.ArgumentTypeError, match="must be NAME=PATH. Received"):
        curve.named("drums")
