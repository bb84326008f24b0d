"""Files -> arrays: pictures of any kind in, (H, W, 3) uint8 sRGB out.

Everything that Pillow can do well is left to Pillow; here stand the decisions.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from .checks import as_picture
from .errors import FileError, UsageError
from .settings import FILTERS, SMALLEST

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray"

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
"""Pillow has some forty parsers; only these see a stranger's file."""

SUFFIXES = [
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif")
]
"""Of the files that are taken from a folder."""

HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
"""What stands in the ninth to twelfth byte of a telephone's pictures (ISO/IEC 23008-12)."""

PNG_TEXT = "minimal_nst"
"""Keyword of the text in a PNG."""

ORIENTED = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Where Pillow keeps what says how a picture lies, if the file has it before its pixels."""

LYING = {5, 6, 7, 8}
"""EXIF orientations of a picture whose rows are columns (TIFF 6.0, section 8)."""

# What Pillow logs of a damaged picture would be printed beside our own line, if nobody listened.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def load(
    picture: Picture, size: int | None = None, option: str = "size", resampling: str = "lanczos"
) -> np.ndarray:
    """Return a picture as an array.

    EXIF orientation and colour profile are applied, transparency is composited on white, 16-bit
    grey is scaled to 8 bits, an animation gives its first frame.

    Parameters
    ----------
    picture : path, PIL image or array
        A PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF file, or with `pillow-heif` a HEIC; or an (H, W),
        (H, W, 3) or (H, W, 4) array in 0..255.
    size : int, optional
        Longer side in pixels to scale to, up or down, keeping the aspect.
    option : str
        What messages call the size.
    resampling : str
        One of `settings.FILTERS`.

    Returns
    -------
    (H, W, 3) array of uint8
        sRGB.

    Raises
    ------
    FileError
        If the file cannot be read as a picture.
    UsageError
        If a side is (or would become) shorter than 16 pixels, an array is not a picture, or there
        is no such filter.
    """
    if resampling not in FILTERS:
        raise UsageError(f"there is no filter {resampling!r}; there are {', '.join(FILTERS)}")
    name, image = _open(picture)
    height, width = _fitted(name, image.size, size, option)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[resampling.upper()])
    return np.array(image)


def measure(picture: Picture, size: int | None = None, option: str = "size") -> tuple[int, int]:
    """Return the height and width that `load` would give a picture, without decoding it.

    Parameters
    ----------
    picture, size, option
        As for `load`.

    Returns
    -------
    height, width : int

    Raises
    ------
    FileError, UsageError
        As for `load`.
    """
    if isinstance(picture, str | os.PathLike):
        path = _path(picture)
        with _reading(path) as image:
            width, height = image.size
            turned = image.format == "TIFF"  # by Pillow itself, as soon as it is opened
            told = not turned and any(key in image.info for key in ORIENTED)
            if told and image.getexif().get(ExifTags.Base.Orientation) in LYING:
                width, height = height, width
            return _fitted(str(path), (width, height), size, option)
    name, image = _open(picture)
    return _fitted(name, image.size, size, option)


def folder(path: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    """Return the pictures of a folder, by name; of a file, itself.

    Parameters
    ----------
    path : path

    Returns
    -------
    list of paths
        Files whose suffix is that of a picture which can be read; hidden ones are left out.

    Raises
    ------
    FileError
        If the folder has none, or cannot be read.
    """
    if not _path(path).is_dir():
        return [path]
    try:
        files = sorted(file for file in Path(path).iterdir() if file.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    pictures: list[str | os.PathLike[str]] = [
        file for file in files if file.is_file() and not file.name.startswith(".")
    ]
    if not pictures:
        raise FileError(f"{path} is a folder without pictures ({', '.join(SUFFIXES)})")
    return pictures


def _open(picture: Picture) -> tuple[str, Image.Image]:
    """Any picture -> what messages call it, and an RGB image."""
    if isinstance(picture, np.ndarray):
        return "array", _from_array(picture)
    if isinstance(picture, Image.Image):
        return "image", _to_rgb(picture)
    if isinstance(picture, str | os.PathLike):
        return str(picture), _read(_path(picture))
    raise UsageError(f"{picture!r} is no picture; pass a path, a PIL image or an array")


def _path(path: str | os.PathLike[str]) -> Path:
    """A path; '' would become the current folder."""
    if os.fspath(path) == "":
        raise FileError("the path of a picture is empty; name a file")
    return Path(path)


def _fitted(
    name: str, sides: tuple[int, int], size: int | None, option: str = "size"
) -> tuple[int, int]:
    """(width, height) of a picture -> (height, width) with the longer side as wanted."""
    width, height = sides
    if min(sides) < SMALLEST:
        raise UsageError(f"{name} has {width}x{height} pixels; each side needs {SMALLEST} or more")
    if size is None:
        return height, width
    scale = size / max(sides)
    fitted = max(1, round(height * scale)), max(1, round(width * scale))
    if min(fitted) < SMALLEST:
        needed = -(-SMALLEST * max(sides) // min(sides))
        raise UsageError(
            f"{name} ({width}x{height}) would have {fitted[1]}x{fitted[0]} pixels at {option} "
            f"{size}, but each side needs {SMALLEST}; choose {option} {needed} or more, or crop it"
        )
    return fitted


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale an (H, W, 3) picture to (height, width, 3) by Lanczos: uint8, or float, not clipped."""
    return _scaled(image, lambda part: part.resize((width, height), Image.Resampling.LANCZOS))


def _scaled(image: np.ndarray, scale: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Do to a picture what is done to one of PIL's: of floats, which PIL has of one channel only, to each."""
    if image.dtype == np.uint8:
        return np.array(scale(Image.fromarray(image)))
    channels = np.moveaxis(image.astype("float32"), -1, 0)
    return np.stack(
        [np.array(scale(Image.fromarray(channel))) for channel in channels], axis=-1
    ).astype(image.dtype)


def mask(
    picture: Picture, height: int, width: int, sides: tuple[int, int] | None = None
) -> np.ndarray:
    """Return a mask: how white a picture is, scaled to a height and width.

    Parameters
    ----------
    picture : path, PIL image or array
        As for `load`.
    height, width : int
    sides : (int, int), optional
        Height and width of the picture that is masked, whose proportions it must have.

    Returns
    -------
    (height, width) array
        0 black, 1 white.

    Raises
    ------
    FileError, UsageError
        As for `load`; or if it is black all over, or has other proportions.
    """
    name, image = _open(picture)
    if sides is not None and abs(image.width * sides[0] / (image.height * sides[1]) - 1) > 0.02:
        raise UsageError(
            f"the mask {name} has {image.width}x{image.height} pixels, its picture "
            f"{sides[1]}x{sides[0]}; give it the same proportions"
        )
    grey = np.array(image.convert("L").resize((width, height), Image.Resampling.BILINEAR))
    if not grey.any():
        raise UsageError(f"the mask {name} is black; paint white what belongs to the region")
    return grey / 255


def cover(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale a picture, as `resize` does, and crop what is over, to (height, width, 3)."""
    fit = functools.partial(ImageOps.fit, size=(width, height), method=Image.Resampling.LANCZOS)
    return _scaled(image, fit)


def description(path: str | os.PathLike[str]) -> str:
    """Return the text that `save` has put into a picture; '' if there is none.

    Parameters
    ----------
    path : path

    Raises
    ------
    FileError
        If the file cannot be read as a picture.
    """
    with _reading(_path(path)) as image:
        exif = image.getexif().get(ExifTags.Base.ImageDescription, "")
        return str(image.info.get(PNG_TEXT, "") or exif)


def opacity(picture: Picture, height: int, width: int) -> np.ndarray | None:
    """Return how opaque a picture is, scaled to a height and width.

    Parameters
    ----------
    picture : path, PIL image or array
        As for `load`.
    height, width : int

    Returns
    -------
    (height, width) array of uint8 or None
        0 transparent, 255 opaque; None if all of it is opaque.

    Raises
    ------
    FileError, UsageError
        As for `load`.
    """
    if isinstance(picture, np.ndarray):
        array = as_picture(picture, "the array", channels=(0, 3, 4))
        picture = Image.fromarray(np.round(array).astype(np.uint8))
    if isinstance(picture, Image.Image):
        channel = _opacity(picture)
    else:
        with _reading(_path(picture)) as image:
            channel = _opacity(image)
    if channel is None:
        return None
    alpha = np.array(channel.resize((width, height), Image.Resampling.LANCZOS))
    return None if (alpha == 255).all() else alpha


def _opacity(image: Image.Image) -> Image.Image | None:
    """The alpha channel of an image, upright."""
    if not image.has_transparency_data:
        return None
    return ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")


def _from_array(array: np.ndarray) -> Image.Image:
    """An array in 0..255, grey, RGB or RGBA -> an RGB image."""
    array = as_picture(array, "the array", channels=(0, 3, 4))
    return _to_rgb(Image.fromarray(np.round(array).astype(np.uint8)))


def _read(path: Path) -> Image.Image:
    """Read a file as an RGB image, or say in one line why not."""
    with _reading(path) as image:
        with _silence() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        return _to_rgb(image)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Image.Image]:
    """Open a picture's file; whatever a decoder raises meanwhile, it means: damaged."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise FileError("is no plain file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_formats(path)) as image:
                yield image
    except (FileError, UsageError) as error:
        raise type(error)(f"{path}: {error}" if str(path) not in str(error) else error) from None
    except FileNotFoundError:
        raise FileError(f"{path}: no such picture") from None
    except IsADirectoryError:
        raise FileError(f"{path} is a folder, not a picture") from None
    except UnidentifiedImageError:
        raise FileError(
            f"{path}: not a picture that can be read; convert it to {', '.join(READABLE)}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise FileError(f"{path}: more than {limit} megapixels; scale it down first") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # a link loop, no permission, ...
            raise FileError(f"{path}: cannot be read ({error.strerror})") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"{path}: damaged picture ({reason})") from error


def _formats(path: Path) -> tuple[str, ...]:
    """The parsers that may see a file; that of HEIC is a package of its own."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] != b"ftyp" or head[8:] not in HEIF_BRANDS:
        return READABLE
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        raise FileError(
            'is a HEIC picture, which needs another package: pip install "minimal_nst[heif]"; or '
            "convert it to JPEG"
        ) from None
    return (*READABLE, "HEIF")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Let nobody hear what libtiff, which knows nothing of Python, says on standard error."""
    try:
        stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # there is no standard error
        yield
        return
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Orientation, depth, transparency and colour profile -> plain sRGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # convert("L") would clip at 255 instead of scaling
        return Image.fromarray((np.asarray(image) / 257.0).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise FileError(f"32-bit grey ('{image.mode}') has no agreed white; convert it to 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        colours = _apply_profile(image.convert("RGB"), image.info.get("icc_profile"))
        white = Image.new("RGB", image.size, "white")
        return Image.composite(colours, white, alpha)
    if image.mode == "1" or image.mode == "P":
        image = image.convert("RGB")
    return _apply_profile(image, image.info.get("icc_profile"))


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert from the embedded colour profile to sRGB; a broken or unfitting one is ignored."""
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
    return image.convert("RGB")
