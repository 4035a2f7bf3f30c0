"""A small disk that can be filled."""

from __future__ import annotations

import contextlib
import subprocess

import pytest

_MEGABYTES = 8


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes; making one needs the superuser."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path, *, but=0):
    """Take all the room that there is, or all but so many bytes of it."""
    with path.open("ab", buffering=0) as stream:
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(size))
        if but:
            stream.truncate(stream.tell() - but)
