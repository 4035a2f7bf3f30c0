"""Getting to a Ray cluster, or having one of our own on this machine while it is needed."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.cluster.workspace import workspace
from engine.errors import ConfigError

_REACH_SECONDS = 5.0
_PROBE_SECONDS = 2.0
_STORE_BYTES = 512 << 20
"""Most shared memory of a cluster of our own; larger parcels go through its folder."""
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")


@contextmanager
def connected(address: str | None, *, cpus: int = 1) -> Iterator[None]:
    """Be a part of a cluster.

    :param address: ``host:port`` of its head, or ``auto`` for the one that this machine is a part
        of; it is only left in the end. None: one of our own, on this machine alone, of which
        nothing is left in the end.
    :param cpus: of a cluster of our own: so many are given to runs.
    :raises ConfigError: Ray is not installed, there is no such cluster, or it is not for us.
    :raises StorageError: there is no folder for what is needed meanwhile.
    """
    require_ray()
    _set_environment(own=address is None)
    ray = load_ray()
    options: dict[str, Any] = {
        "log_to_driver": False,
        "configure_logging": False,
        "logging_level": "CRITICAL",
    }
    if address is not None:
        _reach(address)
    # a short path: those of sockets are limited to about a hundred letters
    place = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
    with workspace(place) as folder:
        empty = folder / "empty"
        empty.mkdir()
        if address is None:
            options |= {
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
                "_temp_dir": str(folder / "ray"),
            }
        options["address"] = address or "local"
        with _session(ray, options, empty):
            yield


def require_ray() -> None:
    """See that Ray can be used.

    :raises ConfigError: it is not installed.
    """
    if find_spec("ray") is None:
        raise ConfigError("--engine ray: Ray is not installed; pip install 'proxprop[cluster]'")


def load_ray() -> Any:
    """Ray, quiet; only where its environment is set."""
    import ray
    import ray._private.worker

    def silent(*_: object, **__: object) -> None:
        """Deaths of processes are told by us, in one line, and not on standard output."""

    ray._private.worker.print_to_stdstream = silent
    return ray


def head_answers() -> bool:
    """Whether the head of the cluster that we are connected to can still be reached."""
    host, _, port = str(load_ray().get_runtime_context().gcs_address).rpartition(":")
    try:
        asyncio.run(_connect(host, int(port), _PROBE_SECONDS))
    except OSError:
        return False
    return True


def node_id() -> str:
    """Of the machine of the cluster that this process is on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _set_environment(*, own: bool) -> None:
    """Ray reads these when it is imported, and its processes when they start."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # how often and how long something that will not work is tried
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")
    os.environ.setdefault("RAY_py_gcs_connect_timeout_s", "10")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if own:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = _own_token()
        # so called for the systems whose default it is: everything listens on 127.0.0.1 alone
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


@cache
def _own_token() -> str:
    """Of all clusters of this process: Ray looks for one only once."""
    return secrets.token_hex(32)


@contextmanager
def _session(ray: Any, options: dict[str, Any], empty: Path) -> Iterator[None]:
    """Be connected.

    :param empty: a folder to connect from: Ray has all processes look for modules first of all
        where this one works, and there may be an ``engine.py`` of somebody's.
    """
    before = signal.getsignal(signal.SIGTERM)
    # what starts now is not to end with the terminal: who asks may want its runs to come home
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        try:
            with _quiet(), chdir(_checkout() or empty):
                ray.init(**options)
        except Exception as error:  # Ray raises bare exceptions too
            raise _explained(options["address"], error) from error
        finally:
            # Ray puts its own there, which would leave at once
            signal.signal(signal.SIGTERM, before)
            signal.signal(signal.SIGHUP, hang_up)
        yield
    finally:
        with _quiet():
            ray.shutdown()


def _checkout() -> Path | None:
    """The folder of this program, where it is found in the working folder alone."""
    root = Path(__file__).parents[2]
    return root if Path.cwd() == root else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray writes past Python what it is trying; what went wrong in the end is told by us."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _reach(address: str) -> None:
    """See that somebody listens: Ray itself would try for minutes.

    :raises ConfigError: nobody does, or it is no address.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
        if address == "auto":
            return
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ConfigError(
            f"--address {address!r}: expected HOST:PORT, such as 10.0.0.1:6379, or auto"
        )

    try:
        asyncio.run(_connect(found["host"], int(found["port"]), _REACH_SECONDS))
    except UnicodeError:
        raise _nobody(address, "no such name") from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else "no answer"
        raise _nobody(address, why.lower()) from None


async def _connect(host: str, port: int, seconds: float) -> None:
    """See that somebody listens.

    :raises OSError: nobody does, or there is no answer in time.
    """
    attempt = asyncio.open_connection(host.strip("[]"), port)
    _, writer = await asyncio.wait_for(attempt, seconds)
    writer.close()


def _nobody(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"--address {address}: no Ray cluster there ({why}); start one with 'ray start --head', or "
        "leave --address out to train on this machine"
    )


def _explained(address: str, error: BaseException) -> ConfigError:
    """One line for what Ray tells in many."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__ or cause.__context__
    text = " ".join(" ".join(texts).split())
    where = "--engine ray" if address == "local" else f"--address {address}"
    if re.search(r"AuthenticationError|Unauthenticated|InvalidAuthToken", text):
        return ConfigError(
            f"{where}: authentication failed; put the token of the cluster's head into "
            "~/.ray/auth_token or RAY_AUTH_TOKEN on this machine ('ray get-auth-token' shows it)"
        )
    found = re.search(
        r"Version mismatch:.*?Ray: (\S+) Python: (\S+).*?Ray: (\S+) Python: (\S+)", text
    )
    if found:
        theirs, their_python, ours, our_python = found.groups()
        return ConfigError(
            f"{where}: the cluster has Ray {theirs} and Python {their_python}, this machine Ray "
            f"{ours} and Python {our_python}; install the same on all machines"
        )
    if "No node info found" in text or "possible node ids" in text:
        return ConfigError(
            f"{where}: this machine is no part of that cluster; join it with "
            f"'ray start --address={address} --num-cpus=0'"
        )
    if "timed out during startup" in text:
        return ConfigError(f"{where}: Ray did not start in time; is this machine too busy?")
    if isinstance(error, ConnectionError):
        return _nobody(address, str(error).partition(". ")[0])
    return ConfigError(f"{where}: Ray did not start: {text[:300]}")
