"""Files <-> arrays: pictures of any kind in, (H, W, 3) uint8 sRGB; and back, atomically.

Everything that Pillow can do well is left to Pillow; here stand the decisions.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from .checks import as_picture
from .errors import FileError, UsageError
from .settings import SMALLEST

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray"

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
"""Pillow has some forty parsers; only these see a stranger's file."""

WRITABLE: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".tiff": ("TIFF", {"compression": "tiff_lzw"}),
}
"""Suffix -> Pillow's format and its options."""


def load(picture: Picture, size: int | None = None) -> np.ndarray:
    """Return a picture as an array.

    EXIF orientation and colour profile are applied, transparency is composited on white, 16-bit
    grey is scaled to 8 bits, an animation gives its first frame.

    Parameters
    ----------
    picture : path, PIL image or array
        A PNG, JPEG, WebP, TIFF or BMP file; or an (H, W), (H, W, 3) or (H, W, 4) array in 0..255.
    size : int, optional
        Longer side in pixels to scale to, up or down, keeping the aspect (Lanczos).

    Returns
    -------
    (H, W, 3) array of uint8
        sRGB.

    Raises
    ------
    FileError
        If the file cannot be read as a picture.
    UsageError
        If a side is (or would become) shorter than 16 pixels, or an array is not a picture.
    """
    if isinstance(picture, np.ndarray):
        name, image = "array", _from_array(picture)
    elif isinstance(picture, Image.Image):
        name, image = "image", _to_rgb(picture)
    elif isinstance(picture, str | os.PathLike):
        name, image = str(picture), _read(Path(picture))
    else:
        raise UsageError(f"{picture!r} is no picture; pass a path, a PIL image or an array")
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise UsageError(f"{name} has {width}x{height} pixels; each side needs {SMALLEST} or more")
    if size is not None:
        scale = size / max(width, height)
        fitted = max(1, round(width * scale)), max(1, round(height * scale))
        if min(fitted) < SMALLEST:
            needed = -(-SMALLEST * max(width, height) // min(width, height))
            raise UsageError(
                f"{name} ({width}x{height}) would have {fitted[0]}x{fitted[1]} pixels at size "
                f"{size}, but each side needs {SMALLEST}; choose size {needed} or more, or crop it"
            )
        if fitted != image.size:
            image = image.resize(fitted, Image.Resampling.LANCZOS)
    return np.array(image)


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale an (H, W, 3) uint8 picture to (height, width, 3) by Lanczos."""
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def check_output(path: str | os.PathLike[str], inputs: Iterable[Picture] = ()) -> Path:
    """Find out before the work whether a picture can be written to `path`.

    Parameters
    ----------
    path : path
    inputs : iterable
        What must not be overwritten, under whatever name; what is not a path cannot be.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If the suffix names no format that can be written, or the path is one of the inputs.
    FileError
        If its folder does not exist or cannot be written to, or the path is a folder.
    """
    path = Path(path)
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror}); choose another") from error
    if path.name == "":
        raise FileError(f"'{path}' names no file; give the painting a name, such as out.png")
    if path.is_dir():
        raise FileError(f"{path} is a folder; give the painting a file name, such as out.png")
    if path.exists() and not path.is_file():
        raise FileError(f"{path} is no plain file; give the painting a file name, such as out.png")
    if path.suffix.lower() not in WRITABLE:
        what = f"cannot write '{path.suffix}'" if path.suffix else "the name has no suffix"
        raise UsageError(f"{path}: {what}; use {', '.join(WRITABLE)}")
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no folder {path.parent}; create it first")
    try:
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission to replace it")
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise FileError(
            f"{path}: cannot be written ({error.strerror}); choose another place"
        ) from error
    for source in inputs:
        if not isinstance(source, str | os.PathLike):
            continue
        if path.exists() and os.path.exists(source) and os.path.samefile(path, source):
            raise UsageError(f"{path} is one of the inputs; choose another output name")
    return path


def save(image: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write a picture so that at every moment there is either the old file or the whole new one.

    Parameters
    ----------
    image : (H, W, 3) array of uint8
        sRGB.
    path : path
        Its suffix says the format: .png, .jpg, .webp, .tiff.

    Raises
    ------
    FileError
        If it cannot be written; what was there before is untouched.
    UsageError
        If the suffix is none of these.
    """
    path = check_output(path).resolve()  # through a link, its target is replaced
    kind, options = WRITABLE[path.suffix.lower()]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind, **options)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".minimal_nst-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    """The process' umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _from_array(array: np.ndarray) -> Image.Image:
    """An array in 0..255, grey, RGB or RGBA -> an RGB image."""
    array = as_picture(array, "the array", channels=(0, 3, 4))
    return _to_rgb(Image.fromarray(np.round(array).astype(np.uint8)))


def _read(path: Path) -> Image.Image:
    """Read a file as an RGB image, or say in one line why not."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise FileError(f"{path} is no plain file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=READABLE) as image:
                image.load()
                return _to_rgb(image)
    except FileNotFoundError:
        raise FileError(f"{path}: no such picture") from None
    except IsADirectoryError:
        raise FileError(f"{path} is a folder, not a picture") from None
    except PermissionError:
        raise FileError(f"{path}: no permission to read it") from None
    except UnidentifiedImageError:
        raise FileError(
            f"{path}: not a picture that can be read; convert it to {', '.join(READABLE)}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise FileError(f"{path}: more than {limit} megapixels; scale it down first") from None
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise FileError(f"{path}: damaged picture ({error})") from error


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
