"""Getting to a cluster: what Ray is asked for, and what is told where it fails."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from engine.cluster.connection import connected, node_id
from engine.errors import ConfigError


def test_a_cluster_that_is_there_is_joined_and_left(ray, monkeypatch, capfd):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    seen = []

    def init(**options):
        seen.append(options)
        os.write(2, b"what Ray is trying\n")
        signal.signal(signal.SIGTERM, lambda *_: os._exit(1))  # as Ray does
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    ray.init = init
    ray.shutdown = lambda: seen.append("left")
    with connected(ray.address):
        assert {n: signal.getsignal(n) for n in handlers} == handlers
        assert node_id() == "aa"
        assert len(seen) == 1
    (options, left) = seen
    assert options["address"] == ray.address
    assert left == "left"
    assert os.environ["RAY_AUTH_MODE"] == "disabled"  # as its owner wants it
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    ray._private.worker.print_to_stdstream("a death, in many lines")
    os.write(2, b"what we tell\n")
    assert capfd.readouterr() == ("", "what we tell\n")


def test_a_cluster_of_our_own_is_private_and_leaves_nothing(ray, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with connected(None, cpus=3):
        (options,) = ray.init_options
        folder = Path(options["_temp_dir"]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(str(folder)) < 40  # paths of sockets are limited
        assert (options["address"], options["num_cpus"]) == ("local", 3)
        assert options["include_dashboard"] is False
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
        assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"  # 127.0.0.1 alone
    assert not folder.exists()


@pytest.mark.parametrize("own", [True, False], ids=["own", "there"])
def test_processes_of_a_cluster_do_not_look_for_modules_in_the_working_folder(
    ray, monkeypatch, tmp_path, own
):
    """Ray tells them to look first of all where it was connected from."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "engine.py").touch()
    seen = []
    ray.init = lambda **options: seen.append((Path.cwd(), list(Path.cwd().iterdir())))
    with connected(None if own else ray.address):
        ((folder, entries),) = seen
        assert folder.exists()
        assert Path.cwd() == tmp_path
    assert folder != tmp_path
    assert entries == []


@pytest.mark.parametrize(
    "address", ["x", "host:0", "host:65536", "a b:1", "host:", "1.2.3.4:x", ""]
)
def test_what_is_no_address(ray, address):
    with pytest.raises(ConfigError, match="expected HOST:PORT"), connected(address):
        pass
    assert ray.init_options == []


def test_nobody_is_there(ray):
    ray.lose_head()
    text = r"no Ray cluster there \(connection refused\)"
    with pytest.raises(ConfigError, match=text), connected(ray.address):
        pass
    assert ray.init_options == []


def test_the_address_of_the_environment(ray, monkeypatch):
    with connected("auto"):
        assert ray.init_options[-1]["address"] == "auto"
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(ConfigError, match="'nonsense': expected HOST:PORT"), connected("auto"):
        pass


@pytest.mark.parametrize(
    ("error", "cause", "words"),
    [
        (
            RuntimeError(
                "Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: "
                "3.12.1\nThis process on node 10.0.0.2 was started with:\n    Ray: 2.60.0\n    "
                "Python: 3.11.7\n"
            ),
            None,
            "the cluster has Ray 2.59.0 and Python 3.12.1, this machine Ray 2.60.0 and Python 3.11",
        ),
        (
            ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"),
            RuntimeError("No node info found matching attributes: '' when trying to resolve node"),
            "join it with 'ray start --address={address} --num-cpus=0'",
        ),
        (
            ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"),
            RuntimeError("Unauthenticated: RPC error: InvalidAuthToken: …"),
            "authentication failed; put the token of the cluster's head into ~/.ray/auth_token",
        ),
        (ConnectionError("Could not find any running Ray instance. Please …"), None, "no Ray clus"),
        (RuntimeError("The node timed out during startup"), None, "did not start in time"),
        (ValueError("anything\nelse"), None, "Ray did not start: ValueError: anything else"),
    ],
)
def test_what_ray_tells_in_many_lines_is_told_in_one(ray, error, cause, words):
    error.__cause__ = cause
    ray.init_error = error
    with pytest.raises(ConfigError) as caught, connected(ray.address):
        pass
    text = str(caught.value)
    assert words.format(address=ray.address) in text
    assert text.startswith(f"--address {ray.address}: ")
    assert "\n" not in text


def test_a_cluster_of_our_own_that_does_not_start(ray):
    ray.init_error = ValueError("why")
    text = "^--engine ray: Ray did not start: ValueError: why"
    with pytest.raises(ConfigError, match=text), connected(None):
        pass
    (options,) = ray.init_options
    assert not Path(options["_temp_dir"]).parent.exists()
