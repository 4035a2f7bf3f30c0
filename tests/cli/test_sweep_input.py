"""What a person writes about sweeps, and what it must not do: no training here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cluster.shares import Share
from engine.errors import ConfigError, StorageError
from engine.experiments import TABLE1_TAUS
from engine.run import Run
from engine.runs import Runs
from engine.store import StoreWriter
from engine.sweep_plan import DEFAULT_MAX_RUNS
from engine.sweeps import Sweep, load_sweep, save_sweep, sweep_file, sweep_ids
from proxprop_cli.commands import options as opt
from proxprop_cli.commands import sweep_tau
from proxprop_cli.engines import Engine
from proxprop_cli.lists import parse_numbers
from tests.dashboard.sweep_helper import Made, make_sweep, write_run
from tests.engine.small import config

CELLS = [("exact", 1.0, 0, Made()), ("exact", 0.1, 0, Made())]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def sweep(root: Path) -> Sweep:
    """A sweep whose runs have ids unlike its own, as real ones have."""
    made = make_sweep(root, CELLS, id="x")
    (root / "x").rename(root / "sweep-abc")
    cells = []
    for cell in made.cells:
        id = f"exact-{cell.run}"
        (root / str(cell.run)).rename(root / id)
        cells.append(replace(cell, run=id))
    sweep = replace(made, id="sweep-abc", cells=tuple(cells))
    save_sweep(root, sweep)
    return sweep


def unreadable(root: Path, id: str) -> None:
    path = sweep_file(root, id)
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"version": 99}')


def refused(answer, *words: str, code: int = 2) -> None:
    assert answer.code == code, answer.err
    assert len(answer.err.splitlines()) == 1, answer.err
    for word in words:
        assert word in answer.err


@pytest.mark.parametrize("limit", [["--epochs", "30"], ["--max-seconds", "1"]])
def test_a_cell_keeps_its_limits(cli, root, sweep, limit):
    before = (root / "exact-x-0" / "config.yaml").read_bytes()
    refused(cli("resume", "exact-x-0", *limit), "cell of sweep-abc", "limits")
    assert (root / "exact-x-0" / "config.yaml").read_bytes() == before


def test_options_of_runs_are_not_for_sweeps(cli, sweep):
    answer = cli("resume", "sweep-abc", "--fail-on-divergence")
    refused(answer, "--fail-on-divergence is for runs", "sweep-abc is a sweep")


def test_a_run_that_was_begun_takes_the_threads_it_has(root, sweep):
    run = Run(root / "exact-x-1")
    run.save_config(run.config().model_copy(update={"threads": 3}))
    assert Engine(on_ray=True)._share(sweep, root, 1) == Share(1)  # it is done
    with StoreWriter(run.database) as writer:
        writer.set_state({"status": "stopped"})
    assert Engine(on_ray=True)._share(sweep, root, 1) == Share(3)
    assert Engine(on_ray=True, gpus=0.5)._share(sweep, root, 4) == Share(4, 0.5)
    (run.path / "config.yaml").write_text("nonsense: [")
    assert Engine(on_ray=True)._share(sweep, root, 1) == Share(1)


def test_the_options_of_an_engine_say_the_same_again():
    engine = Engine(on_ray=True, address="auto", gpus=0.25, allow_inexact=True)
    assert engine.options == [
        *("--engine", "ray", "--address", "auto", "--gpus", "0.25", "--allow-inexact")
    ]


class TestFind:
    def test_the_exact_before_the_beginning_of_another(self, root, sweep):
        runs = Runs(root)
        write_run(runs, "named", config(name="sweep"), Made())
        write_run(runs, "sweep-a", config(name="exact"), Made())
        assert opt.find(runs, "sweep-abc").id == "sweep-abc"
        assert opt.find(runs, "sweep-a").id == "sweep-a"
        assert opt.find(runs, "sweep").id == "named"
        assert opt.find(runs, "exact").id == "sweep-a"
        assert opt.find(runs, "sweep-ab").id == "sweep-abc"
        assert opt.find(runs, "exact-x-1").id == "exact-x-1"
        assert opt.find(runs, "latest").id == runs.all()[0].id
        with pytest.raises(ConfigError, match="could be any of sweep-abc, sweep-a; give more"):
            opt.find(runs, "swee")
        with pytest.raises(ConfigError, match="could be any of exact-x-1, exact-x-0"):
            opt.find(runs, "exact-x")
        for nothing in ("sweep-x", "", "..", "../runs"):
            with pytest.raises(ConfigError):
                opt.find(runs, nothing)

    def test_an_unreadable_sweep_is_told(self, root, sweep):
        unreadable(root, "sweep-xyz")
        for ref in ("sweep-xyz", "sweep-x"):
            with pytest.raises(StorageError, match="expected version 1, found 99"):
                opt.find(Runs(root), ref)
        with pytest.raises(ConfigError, match="sweep-abc, sweep-xyz"):
            opt.find(Runs(root), "sweep-")

    def test_a_link_is_no_sweep(self, root, sweep):
        (root / "linked").symlink_to(root / "sweep-abc")
        with pytest.raises(ConfigError, match="link"):
            opt.find(Runs(root), "linked")

    def test_each_once(self, root, sweep):
        found = opt.find_all(Runs(root), ["sweep-abc", "exact-x-0", "sweep-ab", "exact-x-0"])
        assert [one.id for one in found] == ["sweep-abc", "exact-x-0"]

    @pytest.mark.parametrize("command", [["stop"], ["pause"], ["resume"], ["runs", "show"]])
    def test_all_commands_mean_the_same(self, cli, root, sweep, command):
        write_run(Runs(root), "named", config(name="sweep"), Made("diverged"))
        answer = cli(*command, "sweep")
        assert "named" in answer.out + answer.err
        assert "sweep-abc" not in answer.out + answer.err

    def test_watch_means_the_same(self, cli, root, sweep, monkeypatch):
        shown = []

        def open_dashboard(store, runs, data_dir, *, sweep=None):
            shown.append((runs, sweep))
            return 0

        for name in ("terminal", "has_keyboard"):
            monkeypatch.setattr(f"proxprop_cli.output.Output.{name}", lambda output: True)
        monkeypatch.setattr("proxprop_cli.watching.open_dashboard", open_dashboard)
        write_run(Runs(root), "named", config(name="sweep"), Made())
        for refs in ([], ["sweep"], ["sweep-ab"], ["exact-x-0", "sweep", "exact-x-0"], ["--list"]):
            assert cli("watch", *refs).code == 0
        assert shown == [
            (["named"], None),
            (["named"], None),
            ([], "sweep-abc"),
            (["exact-x-0", "named"], None),
            ([], None),
        ]
        refused(cli("watch", "sweep", "sweep-abc"), "one sweep", "sweep-abc")


class TestDelete:
    def test_a_name_is_not_the_beginning_of_a_sweep(self, cli, root, sweep):
        write_run(Runs(root), "named", config(name="sweep"), Made())
        assert cli("runs", "delete", "sweep", "-y", "--json").json == {"deleted": ["named"]}
        assert load_sweep(root, "sweep-abc") == sweep
        assert len(Runs(root).all()) == 2

    def test_a_sweep_needs_its_full_id(self, cli, root, sweep):
        refused(cli("runs", "delete", "exact-x-0", "sweep-ab", "-y"), "full id", "sweep-abc")
        assert len(Runs(root).all()) == 2
        answer = cli("runs", "delete", "sweep-abc", "exact-x-0", "-y")
        # its runs are not named by their content, as those of a sweep are: it may have any names
        expected = "deleted sweep-abc and 0 runs\ndeleted exact-x-0\n"
        assert (answer.code, answer.out) == (0, expected)
        assert [run.id for run in Runs(root).all()] == ["exact-x-1"]

    def test_while_a_sweep_can_not_be_read(self, cli, root, sweep):
        unreadable(root, "sweep-xyz")
        refused(cli("runs", "delete", "sweep-abc", "-y"), "sweep-xyz", "found 99", code=6)
        refused(cli("runs", "delete", "sweep-abc", "sweep-xyz", "-y"), "sweep-xyz", code=6)
        assert len(Runs(root).all()) == 2
        assert cli("runs", "delete", "sweep-xy", "-y").code == 6
        answer = cli("runs", "delete", "sweep-xyz", "-y")
        assert answer.code == 0
        assert answer.out == "deleted sweep-xyz, which could not be read; its runs are kept\n"
        assert len(Runs(root).all()) == 2
        assert sweep_ids(root) == ["sweep-abc"]


class TestLists:
    def test_an_unreadable_sweep_is_listed(self, cli, root, sweep):
        unreadable(root, "sweep-xyz")
        answer = cli("runs", "sweeps")
        assert answer.out.splitlines()[-1].split() == ["sweep-xyz", "unreadable"]
        assert "expected version 1, found 99" in answer.err
        good, bad = cli("runs", "sweeps", "--json").json["sweeps"]
        assert (good["id"], good["runs"], good["status"]) == (
            "sweep-abc",
            2,
            "finished",
        )
        assert (bad["id"], bad["status"], bad["runs"]) == ("sweep-xyz", "unreadable", None)

    @pytest.mark.parametrize("created", [-1e308, -1, 1.1e11, 1e308])
    def test_no_age_of_three_hundred_digits(self, cli, root, sweep, created):
        path = sweep_file(root, sweep.id)
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "created": created}))
        answer = cli("runs", "sweeps")
        assert max(map(len, answer.out.splitlines())) < 100
        assert "created: expected seconds since the epoch" in answer.err

    def test_the_sweep_of_a_run_is_a_column_where_there_is_one(self, cli, root, sweep):
        Runs(root).create(config(), id="alone")
        lines = cli("runs", "list").out.splitlines()
        assert lines[0].split()[-1] == "sweep"
        assert sum("sweep-abc" in line for line in lines) == 2
        save_sweep(root, replace(sweep, id="sweep-newer", created=sweep.created + 1))
        assert "sweep-abc" not in cli("runs", "list").out
        for id in ("sweep-abc", "sweep-newer"):
            sweep_file(root, id).unlink()
        assert "sweep" not in cli("runs", "list").out.splitlines()[0]

    def test_completion_knows_them(self, root, sweep, monkeypatch):
        monkeypatch.setenv("PROXPROP_DIR", str(root))
        assert opt.complete_runs("sw") == ["sweep-abc"]
        assert sorted(opt.complete_runs("ex")) == ["exact-x-0", "exact-x-1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep-tau", "--tau", "5 1"], ["--tau: expected", "'5 1'"]),
        (["sweep-tau", "--tau", "1_0"], ["--tau: expected", "'1_0'"]),
        (["sweep-tau", "--tau", "1e39"], ["--tau: expected", "at most 1e+30", "'1e39'"]),
        (["sweep-tau", "--tau", "1,1.0"], ["step size 1.0 is there more than once"]),
        (["sweep-tau", "--tau", "logspace(1,1,3)"], ["step size 1.0 is there more than once"]),
        (["sweep-tau", "--seeds", "9" * 20], ["--seeds", "100000"]),
        (["compare", "--seeds", "9" * 20], ["--seeds", "100000"]),
        (["sweep-tau", "--seed", str(2**63 - 1), "--tau", "1"], ["seed", str(2**63)]),
        (["sweep-tau", "--seed", "9" * 30], ["seed"]),
        (["compare", "--seed", str(2**63 - 1)], ["seed", str(2**63)]),
        (["sweep-tau", "--tau-theta", "1e39"], ["tau_theta: should be", "at most 1e+30"]),
        (
            ["train", "--set", "optimizer.weight_decay=1e39"],
            ["optimizer.weight_decay: should be", "at most 1e+30", "found 1e+39"],
        ),
        (["train", "--tau", "1e39"], ["method.tau: should be", "1e+30", "found 1e+39"]),
        (["compare", "--variant", "x: seed=7 tau=0.5"], ["--variant x: seed", "--seed"]),
        (["compare", "--variant", "x: tau=[1,2]"], ["method.tau", "[1, 2]"]),
        (["compare", "--variant", "x: tau=1 method.tau=2"], ["--variant x:", "once"]),
        (["compare", "--variant", "x: method=exact method.name=cg3"], ["--variant x:", "once"]),
        (["compare", "--variant", "x: tau"], ["--variant x: 'tau'", "KEY=VALUE"]),
        (["compare", "--variant", "x: model.hidden=[8, 8"], ["--variant x: model.hidden"]),
        (["sweep-tau", "--over", "model.hidden=[8"], ["--over model.hidden: value:1:3: expected"]),
        (["sweep-tau", "--over", "batch_size=1,,2"], ["--over batch_size: expected values"]),
        (
            ["sweep-tau", "--methods", "backprop", "--over", "method.damping=sum,sun"],
            ["damping", "sun"],
        ),
    ],
)
def test_bad_input_makes_nothing(cli, tmp_path, arguments, words):
    refused(cli(*arguments), *words)
    assert not (tmp_path / "runs").exists()


def planned(monkeypatch, cli, *arguments: str) -> Sweep:
    """The sweep that a command would train."""
    found: list[Sweep] = []

    def start(sweep, configs, how):
        found.append(sweep)
        return 0

    monkeypatch.setattr("proxprop_cli.sweeping.start", start)
    answer = cli(*arguments)
    assert answer.code == 0, answer.err
    return found[0]


def test_close_step_sizes_are_told_apart(cli, monkeypatch):
    arguments = ["--tau", "logspace(1,1.0001,4)", "--methods", "exact", "--seeds", "1"]
    sweep = planned(monkeypatch, cli, "sweep-tau", *arguments)
    assert len({cell.tau for cell in sweep.cells}) == 4


def test_lists_are_values_of_a_second_axis(cli, monkeypatch):
    over = ["--over", "model.hidden=[8],[8, 8]", "--methods", "exact", "--tau", "1"]
    sweep = planned(monkeypatch, cli, "sweep-tau", *over, "--seeds", "1")
    assert list(sweep.configs) == ["exact hidden=[8]", "exact hidden=[8, 8]"]
    assert [c["model"]["hidden"] for c in sweep.configs.values()] == [[8], [8, 8]]


@pytest.mark.parametrize(
    "over", ["tau_theta=0.1,1", "damping=sum,mean", "tol=0,0.1", "eps=null,1e-6", "per_filter=true"]
)
def test_backprop_has_one_row_over_what_it_does_not_heed(cli, monkeypatch, over):
    arguments = ["--over", f"method.{over}", "--methods", "backprop,cg3", "--tau", "1"]
    sweep = planned(monkeypatch, cli, "sweep-tau", *arguments, "--seeds", "1")
    assert [row for row in sweep.configs if row.startswith("backprop")] == ["backprop"]
    assert len(sweep.cells) == 1 + len(over.split(","))


@pytest.mark.parametrize("method", ["muon", "soap", "kfac", "trace-scaled", "penalty", "admm"])
def test_no_method_is_trained_twice_over_what_it_does_not_heed(cli, monkeypatch, method):
    arguments = ["--over", "method.tau_theta=0.1,1", "--methods", f"{method},cg3", "--tau", "1"]
    sweep = planned(monkeypatch, cli, "sweep-tau", *arguments, "--seeds", "1")
    assert list(sweep.configs) == [method, "cg3 tau_theta=0.1", "cg3 tau_theta=1"]


def test_values_of_a_variant_may_hold_spaces(cli, monkeypatch):
    variant = "wide: model.hidden=[8, 8] name='of mine' method=exact tau=0.5"
    sweep = planned(
        monkeypatch, cli, "compare", "--methods", "", "--variant", variant, "--seeds", "2"
    )
    found = sweep.configs["wide"]
    assert (found["model"]["hidden"], found["name"]) == ([8, 8], "of mine")
    assert [(cell.tau, cell.seed) for cell in sweep.cells] == [(0.5, 0), (0.5, 1)]


def test_defaults_are_said_once(cli):
    assert parse_numbers(sweep_tau.PAPER_TAUS, "--tau") == TABLE1_TAUS
    for command in ("sweep-tau", "compare"):
        assert f"default: {DEFAULT_MAX_RUNS}." in " ".join(cli(command, "--help").out.split())
    refused(
        cli("sweep-tau", "--seeds", "23"), f"1,035 runs asked for, at most {DEFAULT_MAX_RUNS:,}"
    )
