from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from engine.config import MethodConfig, RunConfig
from engine.errors import ConfigError, StorageError
from engine.figures.read_curves import read_groups
from engine.runs import Runs
from engine.store import StoreWriter
from engine.sweeps import Cell, Sweep, save_sweep
from proxprop_cli.commands import plot as command
from tests.cli.terminal import no_file
from tests.dashboard.runs_helper import make_run, trace
from tests.dashboard.sweep_helper import Made, make_sweep

app = typer.Typer()
app.command("plot")(command.plot)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def plot(root):
    def call(*arguments):
        found = CliRunner().invoke(app, [*map(str, arguments), "--dir", str(root)])
        if found.exception and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found

    return call


def make(root, id, *, seed=0, losses=(2.0, 1.0), name=None, method="exact", tau=1.0, **state):
    config = RunConfig(
        preset="digits-mlp", seed=seed, name=name, method=MethodConfig(name=method, tau=tau)
    )
    run = Runs(root).create(config, id=id)
    with StoreWriter(run.database) as writer:
        writer.append_event(0, "RunStarted", {"steps_per_epoch": 10})
        for epoch, loss in enumerate(losses):
            writer.append_metrics(10 * epoch, {"epoch": epoch, "train_loss": loss})
        steps = range(1, 10 * (len(losses) - 1) + 1)
        writer.append_block(
            steps,
            {
                "work": [3.0 * step for step in steps],
                "time/wall": [0.5 * step for step in steps],
                "batch_loss": [2.0] * len(steps),
            },
        )
        writer.set_state({"status": "finished", **state})
    return run


def svg_texts(path):
    return [
        "".join(one.itertext()).strip()
        for one in ElementTree.parse(path).getroot().iter()
        if one.tag.endswith("}text")
    ]


class TestReading:
    def test_seeds_of_one_configuration_are_one_group(self, root):
        runs = [make(root, f"a{seed}", seed=seed) for seed in range(3)]
        runs.append(make(root, "b", tau=2.0))
        groups = read_groups(runs, root, ["epoch"], ["train_loss"])
        assert [[run.run for run in group.runs] for group in groups] == [["a0", "a1", "a2"], ["b"]]
        assert [group.label for group in groups] == ["exact, τ = 1", "exact, τ = 2"]
        assert groups[0].hue != groups[1].hue

    def test_the_same_seed_again_is_no_further_sample(self, root):
        runs = [make(root, "a"), make(root, "b"), make(root, "c", seed=1)]
        groups = read_groups(runs, root, ["epoch"], ["train_loss"])
        assert [[run.run for run in group.runs] for group in groups] == [["a", "c"], ["b"]]
        assert [group.label for group in groups] == ["exact, τ = 1 [a]", "exact, τ = 1 [b]"]

    def test_every_x_axis(self, root):
        run = make(root, "a")
        xs = ["epoch", "step", "wall", "work"]
        ((group),) = read_groups([run], root, xs, ["train_loss", "batch_loss"])
        series = group.runs[0].series
        assert series["epoch", "train_loss"][0].tolist() == [0, 1]
        assert series["step", "train_loss"][0].tolist() == [0, 10]
        assert series["work", "train_loss"][0].tolist() == [0, 3]  # 30 steps of 10 an epoch
        assert series["wall", "train_loss"][0].tolist() == [5]  # no time is known at step 0
        assert series["wall", "train_loss"][1].tolist() == [1]
        assert series["epoch", "batch_loss"][0] == pytest.approx([0.1 * k for k in range(1, 11)])

    def test_steps_of_an_unfinished_epoch_have_their_place(self, root):
        run = make(root, "a")
        with StoreWriter(run.database) as writer:
            writer.append_metrics(15, {"batch_loss": 1.0})
        (group,) = read_groups([run], root, ["epoch"], ["batch_loss"])
        assert group.runs[0].series["epoch", "batch_loss"][0][-1] == 1.5

    def test_diverged_by_status_or_by_loss(self, root):
        runs = [
            make(root, "a", status="diverged"),
            make(root, "b", tau=2.0, metrics={"train_loss": float("nan")}),
            make(root, "c", tau=3.0),
        ]
        groups = read_groups(runs, root, ["epoch"], ["train_loss"])
        assert [group.runs[0].diverged for group in groups] == [True, True, False]

    def test_rows_of_a_sweep(self, root):
        cells = [("exact", 1.0, seed, Made()) for seed in (0, 1)]
        cells += [("exact", 0.1, 0, Made()), ("exact", 0.1, 1, Made(None))]
        sweep = make_sweep(root, cells)
        groups = read_groups([sweep], root, ["epoch"], ["train_loss"])
        assert [(group.label, len(group.runs)) for group in groups] == [
            ("exact, τ = 1", 2),
            ("exact, τ = 0.1", 1),
        ]
        assert groups[0].hue == groups[1].hue
        assert groups[0].dash != groups[1].dash
        (best,) = read_groups([sweep], root, ["epoch"], ["train_loss"], taus={"exact": 0.1})
        assert best.label == "exact, τ = 0.1"

    def test_rows_of_a_comparison_need_no_step_size(self, root):
        make(root, "a")
        make(root, "b", seed=1)
        cells = (
            Cell("exact", 1.0, 1.0, 0, "a", "my row"),
            Cell("exact", 1.0, 1.0, 1, "b", "my row"),
        )
        sweep = Sweep("comparison", "digits", 1, 1.0, cells, "comparison")
        (group,) = read_groups([sweep], root, ["epoch"], ["train_loss"])
        assert (group.label, len(group.runs)) == ("my row", 2)


class TestPlot:
    @pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
    def test_curves(self, plot, root, tmp_path, ending):
        make_run(root, id="a")
        path = tmp_path / f"out.{ending}"
        assert plot("a", "-o", path).stdout == f"wrote {path}\n"
        content = path.read_bytes()
        if ending == "png":
            with Image.open(path) as image:
                image.load()
        elif ending == "svg":
            texts = svg_texts(path)
            assert {"Training loss", "Validation accuracy (%)", "Epoch", "exact, τ = 1"} <= set(
                texts
            )
        else:
            assert content.startswith(b"%PDF")
        with pytest.raises(ConfigError, match=f"--output: {path} is there already; --force"):
            plot("a", "-o", path)
        path.write_bytes(b"of a person")
        plot("a", "-o", path, "--force")
        assert path.read_bytes() == content

    def test_size_and_title(self, plot, root, tmp_path):
        make_run(root, id="a")
        plot("a", "-o", tmp_path / "a.png", "--width", 5, "--height", 3)
        with Image.open(tmp_path / "a.png") as image:
            assert image.size == (1500, 900)
        plot("a", "-o", tmp_path / "a.svg", "--title", "Costs $5, not $6")
        assert "Costs $5, not $6" in svg_texts(tmp_path / "a.svg")

    def test_all_x_axes_and_chosen_metrics(self, plot, root, tmp_path):
        make_run(root, id="a")
        path = tmp_path / "a.svg"
        plot("a", "-o", path, "--x", "all", "--metric", "val_loss", "--linear-y")
        texts = svg_texts(path)
        labels = {"Epoch", "Wall time (s)", "Work (epochs of BackProp)", "Validation loss"}
        assert labels <= set(texts)
        assert "Training loss" not in texts

    def test_json(self, plot, root, tmp_path):
        make(root, "a")
        make(root, "b", seed=1)
        path = tmp_path / "a.svg"
        found = plot("a", "b", "a", "-o", path, "--json")
        assert json.loads(found.stdout) == {"path": str(path), "kind": "curves", "runs": ["a", "b"]}
        assert "exact, τ = 1 (n=2, min–max)" in svg_texts(path)

    def test_a_sweep_is_drawn_as_stability(self, plot, root, tmp_path):
        cells = [
            ("exact", 1.0, 0, Made(loss=0.01)),
            ("exact", 0.1, 0, Made(loss=0.5)),
            ("backprop", 1.0, 0, Made("diverged", bad_step=3)),
            ("backprop", 0.1, 0, Made(loss=0.3)),
        ]
        make_sweep(root, cells, id="sweep-abc")
        path = tmp_path / "a.svg"
        found = json.loads(plot("sweep-abc", "-o", path, "--json").stdout)
        assert (found["kind"], len(found["runs"])) == ("stability", 4)
        assert {"Step size τ", "Training loss after 20 epochs", "1/1"} <= set(svg_texts(path))
        plot("sweep-abc", "-o", path, "--kind", "heatmap", "--force")
        assert {"✖ 1/1", "0.01", "backprop"} <= set(svg_texts(path))
        plot("sweep-abc", "-o", path, "--kind", "curves", "--force")
        assert "backprop, τ = 1 (diverged)" in svg_texts(path)
        found = plot("sweep-abc", "-o", path, "--best", "--force", "--json")
        assert json.loads(found.stdout)["kind"] == "curves", "which alone know the best"
        legend = {text for text in svg_texts(path) if "τ =" in text}
        assert legend == {"exact, τ = 1", "backprop, τ = 0.1"}

    def test_residuals(self, plot, root, tmp_path):
        make_run(root, "cg3", id="a", traces=[trace(1), trace(1, "3"), trace(20)])
        path = tmp_path / "a.svg"
        plot("a", "-o", path, "--kind", "residuals")
        texts = svg_texts(path)
        assert {"Relative residual", "CG iteration", "layer 1 (dual, 500 × 500)"} <= set(texts)

    def test_names_may_hold_anything(self, plot, root, tmp_path):
        make(root, "a", name="$\\frac{ <b> \x1b[31m_")
        plot("a", "-o", tmp_path / "a.svg")
        assert "$\\frac{ <b> \\x1b[31m_" in svg_texts(tmp_path / "a.svg")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["a", "-o", "a.jpg"], "ends in .png, .svg or .pdf"),
            (["a", "-o", "a.png", "--kind", "pie"], "--kind: expected one of"),
            (["a", "-o", "a.png", "--x", "hour"], "--x: expected one of"),
            (["a", "-o", "a.png", "--kind", "stability"], "'a', which is none"),
            (["a", "s", "-o", "a.png", "--kind", "heatmap"], "found several"),
            (["a", "-o", "a.png", "--kind", "residuals"], "no traces of CG"),
            (["s", "-o", "a.png", "--kind", "residuals"], "found a sweep"),
            (["a", "-o", "a.png", "--metric", "nonsense"], "no values of 'nonsense'"),
            (["a", "-o", "a.png", "--best"], "--best: expected one sweep"),
            (["s", "-o", "a.png", "--kind", "stability", "--best"], "for curves alone"),
            (["b", "-o", "a.png"], "no run 'b'"),
            (["a", "-o", "a.png", *["--metric=val_loss", "--metric=x"] * 3, "--x", "all"], "'x'"),
        ],
    )
    def test_what_can_not_be_drawn(self, plot, root, tmp_path, monkeypatch, arguments, words):
        monkeypatch.chdir(tmp_path)
        make_run(root, id="a")
        make_sweep(root, [("exact", 1.0, 0, Made())], id="s")
        with pytest.raises(ConfigError) as error:
            plot(*arguments)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
        assert not list(tmp_path.glob("*.png"))

    def test_a_comparison_is_no_grid(self, plot, root, tmp_path):
        make(root, "a")
        cells = (Cell("exact", 1.0, 1.0, 0, "a"),)
        save_sweep(root, Sweep("comparison-a", "digits", 1, 1.0, cells, "comparison"))
        with pytest.raises(ConfigError, match="expected one sweep of step sizes"):
            plot("comparison-a", "-o", tmp_path / "a.png", "--kind", "stability")
        found = plot("comparison-a", "-o", tmp_path / "a.png", "--json")
        assert json.loads(found.stdout)["kind"] == "curves"

    def test_a_folder_that_is_not_there(self, plot, root, tmp_path):
        make_run(root, id="a")
        with pytest.raises(StorageError):
            plot("a", "-o", tmp_path / "none" / "a.png")

    @pytest.mark.parametrize("kind", ["folder", "pipe", "socket"])
    @pytest.mark.parametrize("more", [(), ("--force",)])
    def test_only_files_are_written(self, plot, root, tmp_path, kind, more):
        make_run(root, id="a")
        path = tmp_path / "a.png"
        with no_file(path, kind):
            with pytest.raises(ConfigError, match=f"--output: {path}: expected a file, found"):
                plot("a", "-o", path, *more)
            assert path.exists()
            assert not path.is_file()

    def test_output_is_required(self, plot):
        assert plot("a").exit_code == 2
