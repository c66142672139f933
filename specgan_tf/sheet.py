"""Spectrograms as colour pictures, alone or on one sheet with names and axes."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from specgan_tf import spectral
from specgan_tf.files import StrPath, replacing

# Magma, from silence to full scale in steps of an eighth. Equal steps of magnitude
# look equal, in grey too.
MAGMA = (
    (0, 0, 4),
    (29, 17, 71),
    (81, 18, 124),
    (130, 38, 129),
    (182, 54, 121),
    (230, 81, 100),
    (251, 136, 97),
    (254, 194, 135),
    (252, 253, 191),
)
PALETTE = np.uint8(  # [256, 3]
    [
        np.round(np.interp(np.arange(256) * 8 / 255, range(9), c))
        for c in np.transpose(MAGMA)
    ]
).T.copy()

# Pixels of a sheet:
#   LEFT |tile|GAP|tile|GAP      CAPTION: text above each tile
#                                BOTTOM: the time axis below the last row
SIDE, GAP, LEFT, CAPTION, BOTTOM = spectral.NFRAMES, 10, 44, 18, 26
OLD_GAP = 4  # in sheets of earlier versions, which are grey and have no names
INK, FAINT = (30, 30, 30), (110, 110, 110)


def colour(image: np.ndarray) -> np.ndarray:
    """Magnitudes uint8 [..., h, w, 1] -> colours uint8 [..., h, w, 3]."""
    return PALETTE[np.asarray(image)[..., 0]]


def encode_png(image: np.ndarray) -> bytes:
    """Magnitudes uint8 [h, w, 1], or colours uint8 [h, w, 3] -> a PNG file's bytes."""
    image = np.asarray(image)
    if image.shape[-1] == 1:
        picture = Image.fromarray(image[..., 0])
        picture.putpalette(PALETTE.tobytes())
    else:
        picture = Image.fromarray(image)
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", optimize=True)
    return encoded.getvalue()


def write_png(fp: StrPath, image: np.ndarray) -> None:
    """Write an image to a PNG file. `encode_png` describes the image."""
    with replacing(fp) as f:
        f.write(encode_png(image))


def contact_sheet(
    images: np.ndarray,
    names: Sequence[str],
    sample_rate: int,
    columns: int | None = None,
) -> np.ndarray:
    """Draw many spectrograms on one sheet, row by row, with names, kHz and seconds.

    Args:
      images: uint8 [n, 128, width, 1], such as `spectral.f_to_img` returns.
      names: [n], the text above each tile; long names are shortened.
      sample_rate: Hz, for the axes.
      columns: tiles in a row; None: 8, or fewer if the pictures are wide.

    Returns:
      uint8 [h, w, 3].
    """
    width = images[0].shape[1]
    columns = min(columns or max(1, 8 * SIDE // width), len(images))
    rows = -(-len(images) // columns)
    size = LEFT + columns * (width + GAP), rows * (CAPTION + SIDE) + BOTTOM
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(12), ImageFont.load_default(10)
    for i, (image, name) in enumerate(zip(colour(images), names, strict=True)):
        left, top = _corner(i, columns, width)
        sheet.paste(Image.fromarray(image), (left, top))
        name = _fitting(name, font, width)
        draw.text((left, top - 3), name, INK, font, anchor="ls")
        if left == LEFT:
            _hertz(draw, top, sample_rate, small)
        if i + columns >= len(images):
            _seconds(draw, left, top + SIDE, width, sample_rate, small)
    return np.asarray(sheet)


def _corner(i, columns, width):
    """(left, top) of the i-th tile."""
    row, column = divmod(i, columns)
    return LEFT + column * (width + GAP), row * (CAPTION + SIDE) + CAPTION


def _fitting(name, font, width):
    name = str(name).encode("utf-8", "backslashreplace").decode()
    if font.getlength(name) <= width:
        return name
    while name and font.getlength(name + "...") > width:
        name = name[:-1]
    return name + "..."


def _hertz(draw, top, sample_rate, font):
    """Draw ticks left of a tile, from 0 to half the sample rate."""
    every = next(k for k in (1, 2, 5, 10, 20, 50, 100) if sample_rate / 2000 / k <= 4.5)
    for k in np.arange(0, sample_rate / 2000 + 1e-6, every):
        y = top + round((1 - k / (sample_rate / 2000)) * (SIDE - 1))
        draw.line([LEFT - 4, y, LEFT - 1, y], FAINT)
        at = LEFT - 6, min(max(y, top + 4), top + SIDE - 4)
        draw.text(at, f"{k:g} kHz" if k else "0", FAINT, font, anchor="rm")


def _seconds(draw, left, bottom, width, sample_rate, font):
    """Draw ticks below a tile, from 0 to the length of a slice."""
    length = width * spectral.NHOP / sample_rate
    every = next(t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10) if length / t <= 2.5)
    for t in np.arange(0, length, every):
        x = left + round(t / length * (width - 1))
        draw.line([x, bottom, x, bottom + 3], FAINT)
        anchor = "mt" if t else "lt"
        draw.text((x, bottom + 6), f"{t:g} s" if t else "0", FAINT, font, anchor=anchor)


def first_row(fp: StrPath, width: int = SIDE) -> list[np.ndarray]:
    """Return the tiles in the first row of a contact sheet: uint8 [128, width, 3] each.

    The list is empty if the file is not a picture, or is too small for a sheet.
    """
    try:
        with Image.open(fp) as picture:
            grey, sheet = picture.mode == "L", np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return []
    left, top, step = (
        (OLD_GAP, OLD_GAP, SIDE + OLD_GAP) if grey else (LEFT, CAPTION, width + GAP)
    )
    row = sheet[top : top + SIDE]
    tiles = [row[:, x : x + width] for x in range(left, sheet.shape[1], step)]
    tiles = [tile for tile in tiles if tile.shape[:2] == (SIDE, width)]
    return [colour(tile[..., :1]) for tile in tiles] if grey else tiles
