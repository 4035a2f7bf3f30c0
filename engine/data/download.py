"""Fetching a file: streamed, verified, and under its name only when it is whole."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.data.arrays import Progress
from engine.data.files import new_file
from engine.errors import DataError

_CHUNK = 1 << 18
_TIMEOUT_SECONDS = 30


def ensure(urls: Sequence[str], target: Path, md5: str, progress: Progress) -> None:
    """Have the file at ``target``: the verified one that is there, or a download.

    :raises DataError: what is there is another file or no file, or it can not be downloaded.
    """
    if not target.is_file():
        fetch(urls, target, md5, progress)
        return
    with target.open("rb") as stream:
        found = hashlib.file_digest(stream, _md5).hexdigest()
    if found != md5:
        raise DataError(
            f"{target}: MD5 {found}, expected {md5}; it is damaged or another file. Delete it, "
            "so that it is downloaded anew"
        )


def fetch(urls: Sequence[str], target: Path, md5: str, progress: Progress) -> None:
    """Download to ``target`` from the first address that gives what is expected.

    :param md5: of the whole file, in hexadecimal.
    :raises DataError: no address does; one line with what was expected and how to get it.
    """
    reasons: list[str] = []
    for url in urls:
        try:
            _fetch(url, target, md5, progress)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reasons.append(f"{url}: {_why(error)}")
        else:
            return
    raise DataError(
        f"{target.name} is not in {target.parent} and could not be downloaded "
        f"({'; '.join(reasons)}); with a network, try again, or put the file there yourself "
        f"(MD5 {md5})"
    )


def _fetch(url: str, target: Path, md5: str, progress: Progress) -> None:
    if not url.startswith(("http://", "https://")):
        raise ValueError("not a web address")
    digest = _md5()
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
        new_file(target) as stream,
    ):
        header = response.headers.get("Content-Length")
        total = int(header) if header and header.isdigit() else None
        done = 0
        while chunk := response.read(_CHUNK):
            stream.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(f"downloading {target.name}", done, total)
        if total is not None and done < total:
            raise ValueError(f"truncated: {done} of {total} bytes")
        if digest.hexdigest() != md5:
            raise ValueError(f"wrong content: MD5 {digest.hexdigest()}, expected {md5}")


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)  # what the publishers give


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
