"""An image file as the pixels that a viewer shows: upright, opaque, its first frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import DataError

GREY = ("1", "L", "LA", "La")
"""Pillow's modes of images without colours."""
BACKGROUND = "white"
"""What is seen through transparent pixels, as on a page."""
FACTS = {
    "turned": "are turned as their EXIF orientation says",
    "transparent": f"have transparent pixels, which are laid on {BACKGROUND}",
    "blank": f"are {BACKGROUND} alone once they are laid on it, so that nothing of them is seen",
    "frames": "have several frames or pages: the first is used",
    "deep": "have 16 bits a channel: the upper 8 are used",
    "stretched": "are not square: they are stretched to the square of data.image_size",
}
"""What can be done to an image, as it is told after "3 of 80 images"."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Whatever a file is called, no other decoder sees it: some start other programs."""
_MAX_PIXELS = 1 << 26
"""Of one image; a small file can declare any number, and every core decodes one at a time."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's number of an orientation (CIPA DC-008, 4.6.5); 1 is upright."""
_FULL = {"1": 255, "L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}
"""By the form of a PNG's pixels what brings their values to 8 bits."""


class NotGreyError(Exception):
    """An image has colours where grey ones were expected."""


def is_grey(path: Path) -> bool:
    """Whether an image has no colours; one that can not be opened has some."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return image.mode in GREY
    except Exception:  # noqa: BLE001 - decoders raise anything on damaged files
        return False  # decoding will say what is wrong


def read_picture(path: Path, mode: str, size: int | None) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The pixels of an image file, uint8 ``(H, W)`` or ``(H, W, 3)``, and which of ``FACTS`` hold.

    :param mode: Pillow's, ``L`` or ``RGB``.
    :param size: height and width to resize to.
    :raises DataError: it is no image, or has more than 8 bits a channel and is grey.
    :raises NotGreyError: it has colours, and ``mode`` has none.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, too many")
            if image.mode.startswith(("I", "F")):
                # Pillow would cut off everything above 255
                raise ValueError("more than 8 bits a channel; convert it to 8")
            if mode == "L" and image.mode not in GREY:
                raise NotGreyError
            facts = ["deep"] if _is_deep(image) else []
            pixels = _opaque(*_upright(image, facts), mode, facts)
            if size is not None:
                if pixels.width != pixels.height:
                    facts.append("stretched")
                pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
            found = np.asarray(pixels)
            if _has_frames(image):
                facts.append("frames")
            return found, tuple(facts)
    except (NotGreyError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files
        reason = str(error).removesuffix(f" {str(path)!r}") or type(error).__name__
        raise DataError(f"{path}: not an image ({reason}); remove or replace it") from None


def _upright(image: Image.Image, facts: list[str]) -> tuple[Image.Image, bool]:
    """The image as it is to be seen, and whether it may have transparent pixels."""
    _scale_transparent_colour(image)
    is_tiff = image.format == "TIFF"
    turn = _turn(image) if is_tiff else None  # Pillow turns those itself when it loads them
    image.load()
    turn = turn if is_tiff else _turn(image)
    if turn is None:
        return image, image.has_transparency_data
    facts.append("turned")
    return (image if is_tiff else image.transpose(turn)), image.has_transparency_data


def _scale_transparent_colour(image: Image.Image) -> None:
    """Bring the one colour of a PNG that is transparent from the bits of the file to 8, as Pillow
    does with the pixels alone."""
    if image.format != "PNG":
        return
    factor = _FULL.get(str(next(iter(_decoder_arguments(image)), "")), 1)
    colour = image.info.get("transparency")
    if isinstance(colour, int):
        image.info["transparency"] = int(colour * factor)
    elif isinstance(colour, tuple):
        image.info["transparency"] = tuple(int(value * factor) for value in colour)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - as viewers do, show what has damaged metadata
        return None


def _opaque(image: Image.Image, is_transparent: bool, mode: str, facts: list[str]) -> Image.Image:
    if not is_transparent:
        return image.convert(mode)
    if image.mode == "La":
        image = image.convert("LA")
    layer = image.convert("RGBA")
    page = Image.new("RGBA", layer.size, BACKGROUND)
    page.alpha_composite(layer)
    opaque = page.convert(mode)
    if np.asarray(layer)[..., 3].min() < 255:
        facts.append("transparent")
        if np.asarray(opaque).min() == 255:
            facts.append("blank")
    return opaque


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow reads 16 bits a channel as 8."""
    arguments = _decoder_arguments(image)
    if image.format == "PPM":
        return any(isinstance(one, tuple) and one[-1] > 255 for one in arguments)
    return any(";16" in str(one) for one in arguments)


def _decoder_arguments(image: Image.Image) -> list[Any]:
    """Of an image that was not loaded yet; for most formats they name the bits of a pixel."""
    return [tile[3] for tile in getattr(image, "tile", ())]


def _has_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 - of a damaged second frame
        return True
