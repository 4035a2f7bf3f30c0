"""Import torch and the program once, then fork per command.

``python -m tests.warm.server SOCKET`` prints ``ready`` and serves until standard input ends. A
request is three file descriptors and a JSON object (see :class:`tests.warm.process.WarmProcess`);
the answers are the process id and, when the command has ended, its exit code.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import multiprocessing.spawn
import multiprocessing.util
import os
import pkgutil
import re
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from tests.warm.process import WarmProcess, is_supported

_SPAWNED = re.compile(r"from multiprocessing\.spawn import spawn_main; spawn_main\((.*)\)")
_LATE = ("sklearn.datasets", "torch._dynamo", "textual.app")
"""What the program, or torch, imports only when it is used."""
_OPTIONAL = ("engine.cluster", "engine.export_tensorboard")
"""Packages that import what may be missing, or what does not survive a fork."""


def main() -> None:
    """Serve; in every fork, run its command."""
    address = sys.argv[1]
    os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # as the program's entry point does
    for package in ("engine", "proxprop_cli"):
        for module in pkgutil.walk_packages(
            importlib.import_module(package).__path__, f"{package}."
        ):
            if not module.name.startswith(_OPTIONAL) and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    request = _serve(address)
    if request is not None:
        _end(lambda: _run(request, address))


def _serve(address: str) -> dict[str, Any] | None:
    """Answer until standard input ends; return a request in the fork that is to run it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    clients: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    for source in (listener, woken, sys.stdin):
        selector.register(source, selectors.EVENT_READ)
    os.write(1, b"ready\n")
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                for pid in clients:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return None
            if key.fileobj is woken:
                woken.recv(4096)
                _reap(clients)
                continue
            client, _ = listener.accept()
            try:
                request, descriptors = _receive(client)
            except (OSError, ValueError):
                client.close()  # it was killed before it had said what it wants
                continue
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                # left to the collector, they would close numbers that others have by then
                selector.close()
                for one in (listener, woken, wake, client, *clients.values()):
                    one.close()
                _close_all_but(descriptors)
                for number, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, number)
                _close_all_but([])
                return request
            for descriptor in descriptors:
                os.close(descriptor)
            clients[pid] = client
            with suppress(BrokenPipeError):
                client.sendall(f"{pid}\n".encode())


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    content, descriptors, _, _ = socket.recv_fds(client, 1, 3)
    while part := client.recv(65536):
        content += part
    if len(descriptors) < 3 or not content.endswith(b"}"):
        for descriptor in descriptors:
            os.close(descriptor)
        raise ValueError("expected three descriptors and a JSON object")
    # above 0, 1 and 2, so that putting one in its place overwrites no other
    for index, descriptor in enumerate(descriptors):
        if descriptor < 3:
            descriptors[index] = os.dup(descriptor)
    return json.loads(content), list(descriptors)


def _reap(clients: dict[int, socket.socket]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        with clients.pop(pid) as client, suppress(OSError):
            client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _close_all_but(descriptors: Sequence[int]) -> None:
    kept = sorted({0, 1, 2, *descriptors})
    for low, high in zip(kept, [*kept[1:], 4096], strict=True):
        os.closerange(low + 1, high)


def _open_streams() -> None:
    """Make the standard streams anew, as an interpreter does that starts with these descriptors."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = io.FileIO(number, "w", closefd=False)
        stream = io.TextIOWrapper(
            raw if unbuffered else io.BufferedWriter(raw),  # type: ignore[arg-type]
            errors="strict" if number == 1 else "backslashreplace",
            line_buffering=number == 2 or os.isatty(number),
            write_through=unbuffered,
        )
        stream.mode = "w"  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(request: dict[str, Any], address: str) -> None:
    """Be the process that the request describes."""
    if request["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    _open_streams()
    _start_warm(address)
    option, what, *arguments = request["arguments"]
    sys.argv = [what if option == "-m" else "-c", *arguments]
    sys.path[0] = request["folder"] if option == "-m" else ""
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        module = {"__name__": "__main__", "__builtins__": __builtins__}
        exec(compile(what, "<string>", "exec"), module)


def _start_warm(address: str) -> None:
    """Have the processes that this one starts be forks too."""
    cold = multiprocessing.util.spawnv_passfds

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __new__(cls, args: Any, **options: Any) -> Any:
            if isinstance(args, (list, tuple)) and is_supported(
                args, options.get("env") or os.environ
            ):
                return WarmProcess(args, address=address, **options)
            return super().__new__(cls)

    def spawn(path: Any, args: Sequence[Any], descriptors: Sequence[int]) -> int:
        match = _SPAWNED.search(" ".join(map(os.fsdecode, args)))
        if match is None:
            return cold(path, args, descriptors)  # type: ignore[no-any-return]
        pid = os.fork()
        if not pid:
            _be_spawned(match[1], descriptors)
        return pid

    subprocess.Popen = Popen  # type: ignore[misc]
    multiprocessing.util.spawnv_passfds = spawn


def _be_spawned(values: str, descriptors: Sequence[int]) -> NoReturn:
    """Run a process of :mod:`multiprocessing` without its parent's open files and handlers."""
    _close_all_but(descriptors)
    # what the parent is to remove when it ends is its own
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    atexit._clear()
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _open_streams()
    numbers = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", values)}
    sys.argv = ["-c", "--multiprocessing-fork"]
    _end(lambda: multiprocessing.spawn.spawn_main(**numbers))


def _end(work: Callable[[], None]) -> NoReturn:
    """Do the work and end as an interpreter does, but leave its memory to the kernel."""
    code = 0
    try:
        work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if not isinstance(error.code, int | None):
            sys.stderr.write(f"{error.code}\n")
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001 - the interpreter's last resort
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
