from __future__ import annotations

import functools

import pytest
import typer.main
from hypothesis import settings

from proxprop_cli.__main__ import run
from tests import tiers
from tests.cli.terminal import Answer, Terminal
from tests.engine.pools import InProcessPool
from tests.engine.small import cache_dir
from tests.reliability import report
from tests.reliability.report import measured, rng  # noqa: F401 - fixtures

# a machine may be busy, and no example is to fail for that
settings.register_profile("busy", deadline=None, max_examples=40, print_blob=True)
settings.load_profile("busy")

pytest_addoption = report.add_options
pytest_configure = report.configure
pytest_configure_node = report.configure_worker
pytest_report_header = report.header
pytest_runtest_makereport = report.make_report
pytest_runtest_protocol = tiers.run_protocol


def pytest_collection_modifyitems(items):
    tiers.collect(items)


def pytest_terminal_summary(terminalreporter, config):
    report.write_tables(config, terminalreporter.stats)


@pytest.fixture
def terminal(tmp_path):
    """Commands as processes, forked from a server that has torch loaded already."""
    return Terminal(tmp_path / "runs")


@pytest.fixture
def cold_terminal(tmp_path):
    """Commands as processes of interpreters of their own, as a user starts them."""
    return Terminal(tmp_path / "runs", is_cold=True)


build_command = functools.cache(typer.main.get_command)
"""Typer builds all commands for every call, which takes longer than what most of them do."""


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """A command in this process; a sweep's runs are trained here too, one after the other."""
    monkeypatch.setattr("engine.workers.Workers", InProcessPool)
    monkeypatch.setattr(typer.main, "get_command", build_command)
    monkeypatch.setenv("PROXPROP_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("PROXPROP_DATA_DIR", str(cache_dir()))

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call
