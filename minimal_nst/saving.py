"""Arrays -> files: where a picture goes is checked before the work, and written atomically."""

from __future__ import annotations

import errno
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from .errors import FileError, NSTWarning, UsageError
from .images import PNG_TEXT, Picture

WRITABLE: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".tiff": ("TIFF", {"compression": "tiff_lzw"}),
}
"""Suffix -> Pillow's format and its options."""

JPEG_TEXT = 65_000
"""Characters for which there is room: a segment of a JPEG has 65,533 bytes (T.81, B.1.1.4)."""


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
    path = check_place(path, inputs)
    if path.suffix.lower() not in WRITABLE:
        what = f"cannot write '{path.suffix}'" if path.suffix else "the name has no suffix"
        raise UsageError(f"{path}: {what}; use {', '.join(WRITABLE)}")
    return path


def check_place(path: str | os.PathLike[str], inputs: Iterable[Picture] = ()) -> Path:
    """Find out before the work whether a file can be written to `path`.

    Parameters
    ----------
    path, inputs
        As for `check_output`.

    Returns
    -------
    Path

    Raises
    ------
    UsageError, FileError
        As for `check_output`, but for the suffix.
    """
    if os.fspath(path) == "":
        raise FileError("the path of the output is empty; give it a name, such as out.png")
    path = Path(path)
    try:
        path.lstat()
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:  # a link loop, a folder that may not be entered, a name too long
        raise FileError(f"{path}: cannot be written ({error.strerror}); choose another") from error
    if path.name == "":
        raise FileError(f"'{path}' names no file; give the painting a name, such as out.png")
    if path.is_dir():
        raise FileError(f"{path} is a folder; give the painting a file name, such as out.png")
    if path.exists() and not path.is_file():
        raise FileError(f"{path} is no plain file; give the painting a file name, such as out.png")
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


def save(
    image: np.ndarray,
    path: str | os.PathLike[str],
    opacity: np.ndarray | None = None,
    description: str = "",
) -> None:
    """Write a picture so that at every moment there is either the old file or the whole new one.

    Parameters
    ----------
    image : (H, W, 3) array of uint8
        sRGB.
    path : path
        Its suffix says the format: .png, .jpg, .webp, .tiff.
    opacity : (H, W) array of uint8, optional
        From `opacity`; a JPEG has none.
    description : str
        ASCII text for `description` to find. A JPEG has room for 65,000 characters; a longer text
        is left out, with a warning.

    Raises
    ------
    FileError
        If it cannot be written; what was there before is untouched.
    UsageError
        If the suffix is none of these.
    """
    path = check_output(path)
    kind, options = WRITABLE[path.suffix.lower()]
    buffer = io.BytesIO()  # Pillow needs to go back in some formats
    picture = Image.fromarray(image)
    if opacity is not None and kind != "JPEG":
        picture.putalpha(Image.fromarray(opacity))
    picture.save(buffer, format=kind, **options, **_described(kind, description))
    replace(path, lambda file: file.write(buffer.getvalue()))


def replace(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that at every moment there is either the old one or the whole new one.

    Parameters
    ----------
    path : path
    write : callable
        Writes to a file that is open for it.

    Raises
    ------
    FileError
        If it cannot be written; what was there before is untouched.
    """
    path = Path(path).resolve()  # through a link, its target is replaced
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".minimal_nst-")
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _described(kind: str, text: str) -> dict[str, Any]:
    """Pillow's options for a picture that carries a text, if there is room for it."""
    if kind == "JPEG" and len(text) > JPEG_TEXT:
        warnings.warn(
            f"a JPEG has no room for a record of {len(text)} characters; it is left out",
            NSTWarning,
            stacklevel=3,
        )
        text = ""
    if not text:
        return {}
    if kind == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt(PNG_TEXT, text)
        return {"pnginfo": chunks}
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = text
    return {"exif": exif}


def _umask() -> int:
    """The process' umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
