"""A picture is written whole or not at all, where it was found beforehand that it can be."""

from __future__ import annotations

import os

import numpy as np
import pytest
from minimal_nst import images, saving
from minimal_nst.errors import FileError, UsageError

from conftest import posix


@pytest.mark.parametrize("suffix", saving.WRITABLE)
def test_saved_is_loaded_again(picture, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    saving.save(picture, path)
    tolerance = 0 if suffix in (".png", ".tif", ".tiff") else 8
    assert np.abs(images.load(path).astype(int) - picture).max() <= tolerance
    assert os.listdir(tmp_path) == [path.name]


def test_the_output_is_checked_before_the_work(picture, tmp_path):
    source = tmp_path / "in.png"
    saving.save(picture, source)
    for path, kind, message in (
        (tmp_path, FileError, "is a folder"),
        (tmp_path / "a.gif", UsageError, "cannot write '.gif'"),
        (tmp_path / "a", UsageError, "the name has no suffix"),
        ("", FileError, "path of the output is empty"),
        (tmp_path / f"{'c' * 300}.png", FileError, "File name too long"),
        *[("/proc/a.png", FileError, "cannot be written")][: os.path.isdir("/proc")],  # Linux
        (tmp_path / "no" / "a.png", FileError, "there is no folder"),
        (source, UsageError, "is one of the inputs"),
    ):
        with pytest.raises(kind, match=message):
            saving.check_output(path, [picture, source])
    assert saving.check_output(tmp_path / "OUT.JPG", [source]).name == "OUT.JPG"
    assert os.listdir(tmp_path) == ["in.png"]


@posix
def test_an_output_through_a_link_or_into_a_pipe(picture, tmp_path):
    target, link, pipe = tmp_path / "a.png", tmp_path / "link.png", tmp_path / "pipe.png"
    saving.save(picture, target)
    link.symlink_to(target)
    saving.save(255 - picture, link)
    assert link.is_symlink()
    assert (images.load(target) == 255 - picture).all()
    os.mkfifo(pipe)
    with pytest.raises(FileError, match="is no plain file"):
        saving.check_output(pipe)


def test_a_failed_write_leaves_the_old_file(picture, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    saving.save(picture, path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, fail)
            with pytest.raises(FileError, match="cannot be written .No space left"):
                saving.save(255 - picture, path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["a.png"]


@posix
def test_the_file_has_the_usual_permissions(picture, tmp_path):
    (tmp_path / "plain").write_text("")
    saving.save(picture, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "a.png").chmod(0o600)
    saving.save(picture, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o600
