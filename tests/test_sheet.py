"""Pictures of spectrograms: colours, names and axes of a contact sheet."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from specgan_tf import sheet

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)


def tiles(n):
    rs = np.random.RandomState(0)
    return rs.randint(0, 255, (n, 128, 128, 1)).astype(np.uint8)


def test_colours_run_from_dark_to_light():
    """In equal steps of lightness, so that a grey print shows the same."""
    seen = sheet.colour(LEVELS).reshape(256, 3)
    assert seen[0].tolist() == [0, 0, 4] and seen[-1].tolist() == [252, 253, 191]
    linear = (seen / 255) ** 2.2 @ [0.2126, 0.7152, 0.0722]
    lightness = 116 * np.cbrt(linear) - 16
    assert (np.diff(lightness[16:]) > -0.05).all()
    steps = np.diff(lightness[32::32])
    assert steps.max() < 2 * steps.min()


def test_a_png_of_one_spectrogram_is_in_colour_and_a_byte_a_pixel():
    encoded = sheet.encode_png(LEVELS)
    assert Image.open(io.BytesIO(encoded)).mode == "P"
    got = tf.io.decode_png(encoded, channels=3)
    np.testing.assert_array_equal(got, sheet.colour(LEVELS))


def test_a_sheet_holds_each_picture_as_it_is(tmp_path):
    images = tiles(11)
    made = sheet.contact_sheet(images, [f"{i}.wav" for i in range(11)], 16000)
    sheet.write_png(tmp_path / "a.png", made)
    np.testing.assert_array_equal(
        tf.io.decode_png((tmp_path / "a.png").read_bytes()), made
    )
    first = sheet.first_row(tmp_path / "a.png")
    np.testing.assert_array_equal(first, sheet.colour(images[:8]))
    ninth = made[-128 - sheet.BOTTOM : -sheet.BOTTOM, sheet.LEFT :][:, :128]
    np.testing.assert_array_equal(ninth, sheet.colour(images[8]))


def ink(made):
    return (made < 200).any(axis=2)


def test_a_sheet_has_names_and_axes():
    """Other names, rates and lengths change what is written, nothing else."""
    images = tiles(3)
    made = sheet.contact_sheet(images, ["a", "b", "c"], 16000, columns=2)
    named = sheet.contact_sheet(images, ["a", "other", "c"], 16000, columns=2)
    changed = (made != named).any(axis=(2)).nonzero()
    assert changed[0].max() < sheet.CAPTION
    assert changed[1].min() >= sheet.LEFT + 128 + sheet.GAP
    rate = sheet.contact_sheet(images, ["a", "b", "c"], 44100, columns=2)
    changed = (made != rate).any(axis=2).nonzero()
    below = changed[0] >= made.shape[0] - sheet.BOTTOM - sheet.CAPTION - 128
    assert ((changed[1] < sheet.LEFT) | below).all() and len(changed[0])
    kilohertz, seconds = made[:, : sheet.LEFT], made[-sheet.BOTTOM :]
    assert ink(kilohertz).sum() > 200 and ink(seconds).sum() > 100


@pytest.mark.parametrize("name", ["x" * 500, "\udcff\udcfe.wav", "<b>&日本", ""])
def test_any_name_fits_its_tile(name):
    images = tiles(2)
    plain = sheet.contact_sheet(images, ["", ""], 16000)
    made = sheet.contact_sheet(images, [name, ""], 16000)
    changed = (made != plain).any(axis=2).nonzero()
    assert not len(changed[0]) or changed[1].max() < sheet.LEFT + 128 + sheet.GAP


def test_earlier_sheets_are_read(tmp_path):
    """Grey, without names, with four pixels of white around each picture."""
    images = tiles(3)
    old = np.full((136, 3 * 132 + 4), 255, np.uint8)
    for i, image in enumerate(images):
        old[4:132, 4 + 132 * i :][:, :128] = image[..., 0]
    Image.fromarray(old).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        sheet.first_row(tmp_path / "a.png"), sheet.colour(images)
    )


def test_what_is_no_sheet_has_no_row(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 40)).save(tmp_path / "b.png")
    assert sheet.first_row(tmp_path / "a.png") == []
    assert sheet.first_row(tmp_path / "b.png") == []
