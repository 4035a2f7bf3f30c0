"""Images are read as a viewer shows them: upright, opaque, their first frame."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from engine.config import DataConfig
from engine.data import Arrays, prepare
from engine.data.pictures import read_picture
from engine.errors import DataError
from tests.reliability.report import BAD_INPUT, promise

AS_SHOWN = promise(
    BAD_INPUT,
    "images with an orientation, transparency or several frames",
    "trained as viewers show them, and told with counts",
)
ORIENTATION = 0x0112


def pixels_of(path: Path, mode: str = "RGB", size: int | None = None) -> NDArray[Any]:
    return read_picture(path, mode, size)[0]


def facts_of(path: Path, mode: str = "RGB", size: int | None = None) -> tuple[str, ...]:
    return read_picture(path, mode, size)[1]


def corners() -> Image.Image:
    """3 blocks wide and 2 high, each of another colour; JPEG keeps them nearly as they are."""
    small = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    blocks = np.kron(small, np.ones((16, 16), np.uint8))
    return Image.fromarray(np.stack([blocks, 255 - blocks, blocks], axis=2))


@AS_SHOWN
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("number", range(1, 9))
def test_an_orientation(tmp_path: Path, suffix: str, number: int) -> None:
    picture = corners()
    exif = Image.Exif()
    exif[ORIENTATION] = number
    path = tmp_path / f"turned.{suffix}"
    picture.save(path, exif=exif, quality=100)
    upright = picture.copy()
    upright.getexif()[ORIENTATION] = number
    expected = np.asarray(ImageOps.exif_transpose(upright), dtype=int)
    found = pixels_of(path).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected)[4::16, 4::16].max() < 24
    assert facts_of(path) == (() if number == 1 else ("turned",))


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\xff" * 30])
def test_a_damaged_orientation_is_none(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "photo.jpg"
    corners().save(path, exif=exif)
    assert pixels_of(path).shape == (32, 48, 3)


def shape(mode: str) -> Image.Image:
    """A black bar on nothing: all that is to be seen is in its transparency."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:4] = 255
    alpha[6] = 128
    layers = [np.zeros_like(alpha)] * (3 if mode == "RGBA" else 1)
    return Image.fromarray(np.stack([*layers, alpha], axis=2), mode)


def seen() -> NDArray[np.uint8]:
    """The bar on white."""
    found = np.full((8, 8), 255, np.uint8)
    found[2:4] = 0
    found[6] = 127
    return found


@AS_SHOWN
@pytest.mark.parametrize("form", ["rgba.png", "la.png", "rgba.tif", "rgba.webp", "la.tif"])
def test_transparent_pixels_are_white(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    mode = "LA" if form.startswith("la") else "RGBA"
    shape(mode).save(path, **({"lossless": True} if form.endswith("webp") else {}))
    found = pixels_of(path)
    assert np.abs(found.astype(int) - seen()[..., None]).max() <= 1
    assert facts_of(path) == ("transparent",)
    if mode == "LA":
        assert np.abs(pixels_of(path, "L").astype(int) - seen()).max() <= 1


@AS_SHOWN
def test_transparent_entries_of_a_palette_and_transparent_colours(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.paste(1, (0, 0, 4, 2))
    palette.save(tmp_path / "index.png", transparency=0)
    palette.save(tmp_path / "bytes.png", transparency=b"\x00\xff")
    palette.save(tmp_path / "index.gif", transparency=0)
    for name in ("index.png", "bytes.png", "index.gif"):
        found = pixels_of(tmp_path / name)
        assert found[0, 0].tolist() == [200, 0, 0]
        assert found[3, 3].tolist() == [255, 255, 255]
        assert facts_of(tmp_path / name) == ("transparent",)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert pixels_of(tmp_path / "key.png").min() == 255
    assert facts_of(tmp_path / "key.png") == ("transparent", "blank")
    Image.new("L", (4, 4), 9).save(tmp_path / "grey.png", transparency=9)
    assert pixels_of(tmp_path / "grey.png", "L").min() == 255
    bits = Image.new("1", (4, 4), 0)
    bits.save(tmp_path / "bits.png", transparency=0)
    assert pixels_of(tmp_path / "bits.png", "L").min() == 255


def test_what_is_opaque_is_as_it_was(tmp_path: Path) -> None:
    picture = corners()
    picture.convert("RGBA").save(tmp_path / "opaque.png")
    assert np.array_equal(pixels_of(tmp_path / "opaque.png"), np.asarray(picture))
    assert facts_of(tmp_path / "opaque.png") == ()


@AS_SHOWN
def test_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "green")]
    for name in ("many.gif", "many.png", "many.tif", "many.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert pixels_of(tmp_path / name)[0, 0].tolist() == [255, 0, 0]
        assert facts_of(tmp_path / name) == ("frames",)


def raw_png(bits: int, colour: int, row: bytes, *, transparent: bytes = b"") -> bytes:
    """4x4 pixels, four times the same row."""

    def chunk(name: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + sum_

    header = struct.pack(">IIBBBBB", 4, 4, bits, colour, 0, 0, 0)
    image = chunk(b"IHDR", header) + (chunk(b"tRNS", transparent) if transparent else b"")
    image += chunk(b"IDAT", zlib.compress((b"\0" + row) * 4)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + image


def test_sixteen_bits_a_channel(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(raw_png(16, 2, b"\x80\x01" * 12))
    assert pixels_of(path)[0, 0].tolist() == [128, 128, 128]
    assert facts_of(path) == ("deep",)
    path.write_bytes(b"P6\n2 1\n65535\n" + b"\x80\x01" * 6)
    assert facts_of(path.rename(tmp_path / "deep.ppm")) == ("deep",)
    path.write_bytes(raw_png(16, 0, b"\x80\x01" * 4))
    with pytest.raises(DataError, match="more than 8 bits a channel"):
        pixels_of(path)


@AS_SHOWN
def test_a_transparent_colour_of_few_or_many_bits(tmp_path: Path) -> None:
    path = tmp_path / "colour.png"
    path.write_bytes(raw_png(2, 0, b"\x1b", transparent=b"\0\1"))
    assert pixels_of(path, "L")[0].tolist() == [0, 255, 170, 255]
    path.write_bytes(raw_png(4, 0, b"\x01\x23", transparent=b"\0\1"))
    assert pixels_of(path, "L")[0].tolist() == [0, 255, 34, 51]
    deep = b"\x80\x01" * 3 + b"\x10\x00" * 9
    path.write_bytes(raw_png(16, 2, deep, transparent=b"\x80\x01" * 3))
    assert pixels_of(path)[0, :, 0].tolist() == [255, 16, 16, 16]


def test_one_bit_and_four_inks(tmp_path: Path) -> None:
    Image.new("1", (4, 4), 1).save(tmp_path / "bits.png")
    assert pixels_of(tmp_path / "bits.png", "L").min() == 255
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "inks.jpg", quality=100)
    red, green, blue = pixels_of(tmp_path / "inks.jpg")[0, 0].tolist()
    assert red > 240
    assert green < 15
    assert blue < 15


def test_what_is_stretched(tmp_path: Path) -> None:
    corners().save(tmp_path / "wide.png")
    assert pixels_of(tmp_path / "wide.png", size=8).shape == (8, 8, 3)
    assert facts_of(tmp_path / "wide.png", size=8) == ("stretched",)


@AS_SHOWN
def test_icons_are_different_pictures_and_told_also_from_the_cache(tmp_path: Path) -> None:
    """All of them black; what tells them apart is their transparency alone."""
    root = tmp_path / "icons"
    for number in range(8):
        path = root / f"{'ab'[number % 2]}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        alpha = np.zeros((8, 8), np.uint8)
        alpha[number] = 255
        Image.fromarray(np.stack([np.zeros_like(alpha), alpha], axis=2), "LA").save(path)
    for _ in range(2):
        arrays, told = prepared(root)
        images = np.concatenate([arrays.train_images, arrays.test_images])
        assert images.shape == (8, 1, 8, 8)
        assert len({image.tobytes() for image in images}) == 8
        assert "8 of 8 images have transparent pixels, which are laid on white" in told


def test_pictures_of_which_nothing_is_seen_are_told(tmp_path: Path) -> None:
    root = tmp_path / "icons"
    for number in range(8):
        path = root / f"{'ab'[number % 2]}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        alpha = np.zeros((8, 8), np.uint8)
        alpha[number] = 255
        Image.fromarray(np.stack([np.full_like(alpha, 255), alpha], axis=2), "LA").save(path)
    told = prepared(root)[1]
    assert any(line.startswith("8 of 8 images are white alone") for line in told)
    assert "1 images are in several classes, pixel by pixel the same" in told
    assert "2 validation or test images are training images too, pixel by pixel" in told


def prepared(root: Path) -> tuple[Arrays, list[str]]:
    """The data, and the facts that were told of them."""
    told: list[str] = []

    def progress(what: str, done: int, total: int | None) -> None:
        if total == 0:
            told.append(what)

    config = DataConfig(name="imagefolder", root=str(root))
    return prepare(config, cache_dir=root.parent / "cache", progress=progress).arrays, told
