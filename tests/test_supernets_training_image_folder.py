"""How one image file is decoded: 16 bits, photographs on their side, and files that are damaged."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

from supernets.training.image_folder import ORIENTATION, DamagedImageError, decoded  # noqa: E402  (needs what may be missing)

LEVELS = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
COLOURS = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize(("name", "pixels"), [("a.png", LEVELS), ("a.tif", LEVELS), ("b.tif", LEVELS.astype(">u2"))])
def test_grey_images_of_16_bits_keep_their_upper_8_and_are_grey(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / name)
    found = decoded(str(tmp_path / name), None, None)
    assert np.array_equal(found[..., 0], LEVELS // 256) and found.shape == (8, 8, 1)
    assert np.array_equal(decoded(str(tmp_path / name), None, 3), np.repeat(found, 3, axis=2))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_images_of_32_bits_are_refused_by_name(tmp_path: Path, kind: type) -> None:
    Image.fromarray(LEVELS.astype(kind)).save(tmp_path / "deep.tif")
    with pytest.raises(DamagedImageError, match=r"deep\.tif' is read as 32 bits a pixel.*; convert it to a PNG of 8 or 16 bits"):
        decoded(str(tmp_path / "deep.tif"), None, None)


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 are none
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_photographs_are_turned_as_their_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif, path = Image.Exif(), tmp_path / f"turned.{suffix}"
    exif[ORIENTATION] = orientation
    Image.fromarray(COLOURS).save(path, exif=exif)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert np.array_equal(decoded(str(path), None, None), expected)
    assert np.array_equal(expected, COLOURS) == (orientation in (0, 1, 9))


def test_a_photograph_whose_exif_is_damaged_stays_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "odd.png", exif=b"Exif\0\0no such header")
    with Image.open(tmp_path / "odd.png") as opened, pytest.raises(SyntaxError):
        opened.getexif()
    assert np.array_equal(decoded(str(tmp_path / "odd.png"), None, None), COLOURS)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(("name", "content"), [
    ("letters.ppm", b"P3\n2 2\n255\n0 0 0 x y z 0 0 0 1 1 1"), ("long.ppm", b"P3\n2 2\n255\n" + b"1" * 30), ("short.ppm", b"P6\n2"),
    ("side.ppm", b"P6\n-1 2\n255\n" + bytes(12)), ("none.png", b""), ("cut.png", encoded("PNG")[:60]), ("cut.jpg", encoded("JPEG")[:300]),
    ("cut.bmp", encoded("BMP")[:99]), ("cut.gif", encoded("GIF")[:40]), ("cut.tif", encoded("TIFF")[:90]), ("cut.webp", encoded("WEBP")[:60]),
])  # fmt: skip
def test_damaged_files_are_told_in_one_line_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedImageError) as caught:
        decoded(str(tmp_path / name), None, None)
    assert str(tmp_path / name) in str(caught.value) and "read ()" not in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PPM", "GIF", "BMP"])
def test_files_with_damaged_bytes_are_decoded_or_refused_by_name(tmp_path: Path, kind: str) -> None:
    content, rng, path = encoded(kind), np.random.default_rng(0), tmp_path / f"file.{kind.lower()}"
    for trial in range(100):
        damaged = bytearray(content)
        damaged[rng.integers(min(len(content), 200))] = rng.integers(256)
        path.write_bytes(damaged if trial % 4 else damaged[: rng.integers(len(content))])
        try:
            found = decoded(str(path), 9, None)
        except DamagedImageError as error:
            assert str(path) in str(error)
        else:
            assert found.shape[:2] == (9, 9)
