"""Tiny files in the forms of the public data sets, and a local server that gives them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np


class Site:
    """What the server gives: whole files, one cut short, or nothing."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        self.address = ""


@contextmanager
def serve() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            site.asked.append(name)
            if name not in site.files:
                self.send_error(404)
                return
            content = site.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if name in site.cut else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def usps(count: int) -> bytes:
    """LIBSVM text, labels 1 to 10, pixels in [-1, 1]: sample n is all -1 but for its pixel n."""
    lines = []
    for number in range(count):
        pixels = [f"{i + 1}:{1.0 if i == number else -1.0}" for i in range(256)]
        lines.append(f"{number % 10 + 1} {' '.join(pixels)}")
    return bz2.compress(("\n".join(lines) + "\n").encode())


def mnist(count: int) -> dict[str, bytes]:
    """The images and labels of one part in the idx form, not yet named."""
    images = np.arange(count * 784, dtype=np.int64).astype(np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    return {
        "images-idx3-ubyte": struct.pack(">4i", 2051, count, 28, 28) + images.tobytes(),
        "labels-idx1-ubyte": struct.pack(">2i", 2049, count) + labels.tobytes(),
    }


def mnist_files() -> dict[str, bytes]:
    parts = {"train": mnist(12), "t10k": mnist(5)}
    return {
        f"{part}-{name}.gz": gzip.compress(content, mtime=0)
        for part, contents in parts.items()
        for name, content in contents.items()
    }


def cifar_members() -> dict[str, bytes]:
    """Two training batches, a test batch and the names: pickles, as the real ones are."""
    members: dict[str, bytes] = {}
    for number, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        data = np.full((4, 3072), number, dtype=np.uint8)
        data[:, 0] = 200  # the first pixel of the red plane
        members[name] = pickle.dumps({"data": data, "labels": [0, 1, 2, 3]})
    names = ["plane", "car", "bird", "cat"]
    members["batches.meta"] = pickle.dumps({"label_names": names})
    return members


def tar(folder: str, members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{folder}/{name}" if folder else name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
