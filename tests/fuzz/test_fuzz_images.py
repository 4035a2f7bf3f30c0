"""Folders of images as people have them: a data set, or one line that names the file."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.config import DataConfig
from engine.data import Arrays, prepare
from engine.errors import DataError
from tests.fuzz.common import assert_decent
from tests.reliability.report import tries

pytestmark = pytest.mark.timeout(60)

SECONDS = 5.0
FORMATS = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}
FORMATS |= {"ppm": "PPM"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of eight colour images, 12 wide and 10 high."""
    root = tmp_path_factory.mktemp("whole") / "pets"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for index in range(8):
            picture().save(root / name / f"{index}.png")
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "pets"))


def picture(mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(suffix: str) -> bytes:
    stream = io.BytesIO()
    picture().save(stream, FORMATS[suffix])
    return stream.getvalue()


def read(root: Path, size: int | None = None) -> Arrays | str:
    """The data set, or what is wrong with it."""
    config = DataConfig(name="imagefolder", root=str(root), image_size=size)
    start = time.process_time()
    try:
        arrays = prepare(config, cache_dir=root.parent / "cache").arrays
    except DataError as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        assert len(message) < 1_000
        assert str(root) in message, "of which file?"
        return message
    finally:
        assert time.process_time() - start < SECONDS
    assert arrays.train_images.dtype == np.uint8
    assert arrays.train_images.shape[1] in (1, 3)
    return arrays


@pytest.mark.parametrize("size", [None, 6])
@pytest.mark.parametrize("suffix", FORMATS)
@tries(2, 200)
def test_damaged_files(root, suffix, size, rng):
    """Cut off anywhere, or with bits and bytes that were changed."""
    content = bytearray(encoded(suffix))
    match rng.randrange(3):
        case 0:
            del content[rng.randrange(len(content)) :]
        case 1:
            for _ in range(rng.randint(1, 10)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case 2:
            # most of what decoders trip over is at the beginning
            start = rng.randrange(min(100, len(content)))
            content[start : start + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, rng.randbytes(4)])
    path = root / "cat" / f"3.{suffix}"
    path.write_bytes(content)
    found = read(root, size)
    assert not isinstance(found, str) or str(path) in found


def declared(width: int, height: int, depth: int = 8, kind: int = 2) -> bytes:
    """A PNG that says it is of this size, and holds nearly nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 10_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


REFUSED = {
    "empty.png": b"",
    "text.png": b"not an image\n" * 100,
    "zeros.jpg": b"\0" * 5_000,
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 10\nshowpage\n",
    "page.gif": b"<html>404</html>",
    "huge.png": declared(2**31 - 1, 2**31 - 1),
    "bomb.png": declared(60_000, 60_000),
    "warned.png": declared(12_000, 12_000),  # Pillow only warns of this one
    "no-width.png": declared(0, 10),
    "pixmap.ppm": b"P6\n99999999 99999999\n255\n",
    "deep.pgm": b"P5\n12 10\n65535\n" + b"\x01\x00" * 120,
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("folder", ["bird", "cat", "dog"])
def test_what_is_no_image(root, name, folder):
    """Also as the first of all, whose size and colours are those of the data set."""
    path = root / folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(REFUSED[name])
    for size in (None, 6):
        found = read(root, size)
        assert isinstance(found, str)
        assert str(path) in found


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_modes(root, mode):
    """Eight bits a channel are read, whatever the channels are; more are refused, not cut off."""
    path = root / "cat" / "3.tif"
    if mode in ("I;16", "F"):
        kind = np.uint16 if mode == "I;16" else np.float32
        Image.fromarray(np.full((10, 12), 300, kind)).save(path)
        found = read(root)
        assert isinstance(found, str)
        assert "8 bits" in found
    else:
        picture(mode).save(path)
        assert isinstance(read(root), Arrays)


def test_odd_but_good_images(root):
    frames = [picture("P"), picture("P").rotate(180)]
    frames[0].save(root / "cat" / "many.gif", save_all=True, append_images=frames[1:])
    rotated = picture()
    rotated.getexif()[0x0112] = 3
    rotated.save(root / "cat" / "turned.jpg", exif=rotated.getexif())
    clear = picture("P")
    clear.save(root / "cat" / "clear.png", transparency=b"\x00\x80\xff")
    picture().save(root / "cat" / "named.bmp.png", "BMP")
    picture().save(root / "cat" / "NINE.PNG")
    found = read(root)
    assert isinstance(found, Arrays)
    assert len(found.train_labels) + len(found.test_labels) == 21


def test_sizes_that_differ(root):
    picture(size=(10, 12)).save(root / "dog" / "3.png")
    found = read(root)
    assert isinstance(found, str)
    assert "data.image_size" in found
    assert isinstance(read(root, 7), Arrays)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", SPECIAL)
def test_what_is_no_file_is_passed_over(root, what):
    for place in (root / "cat" / "0000.png", root / "extra"):
        SPECIAL[what](place)
    if what == "a folder":
        (root / "extra").rmdir()  # would be a class without images
    found = read(root)
    assert isinstance(found, Arrays)
    assert found.classes == ("cat", "dog")
    assert len(found.train_labels) + len(found.test_labels) == 16


def test_names_that_are_not_utf_8(root):
    for name in (b"\xff\xfe.png", b"\x1b[2J.png", b"new\nline.png", "é.png".encode()):
        shutil.copy(root / "cat" / "0.png", os.path.join(os.fsencode(root / "cat"), name))  # noqa: PTH118
    found = read(root)
    assert isinstance(found, Arrays)
    assert len(found.train_labels) + len(found.test_labels) == 20


@pytest.mark.slow  # torch is loaded anew
def test_more_than_the_memory(root):
    """One size for all that is allowed for one alone."""
    Image.new("RGB", (8000, 8000)).save(root / "cat" / "000.png")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)); "
    look = (
        "from pathlib import Path; from engine.data.imagefolder import ImageFolder; "
        f"ImageFolder(Path({str(root)!r})).decode(lambda *_: None)"
    )
    done = subprocess.run([sys.executable, "-c", limit + look], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("engine.errors.DataError: ")
    assert "data.image_size" in done.stderr.splitlines()[-1]


def test_the_command_says_it_in_one_line(cli, root):
    """Exit code 3, and no control characters of a file's name."""
    (root / "cat" / "\x1b[2J\n.png").write_bytes(b"no image")
    answer = cli("train", "--plain", "--set=data.name=imagefolder", f"--set=data.root={root}")
    assert_decent(answer, (3,))
    (line,) = (line for line in answer.err.splitlines() if "…" not in line)
    assert line.startswith("proxprop: ")
    assert "not an image" in line
    assert not list((root.parent / "runs").glob("*")), "no run of data that are not there"
