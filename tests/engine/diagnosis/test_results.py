from __future__ import annotations

import csv
import json
import math
import stat
from dataclasses import replace

import pytest

from engine.diagnosis.kept import keep, read_kept
from engine.diagnosis.results import (
    Angle,
    BlockSpectrum,
    DataSpectrum,
    Diagnosis,
    Figures,
    from_document,
    summarise,
)
from engine.diagnosis.tables import (
    ANGLE_LEGEND,
    DATA_LEGEND,
    angle_rows,
    data_rows,
    spectra_legend,
    spectra_rows,
    write_csv,
)
from engine.errors import StorageError
from engine.figures.conditioning import draw_conditioning
from engine.figures.style import artists, render, styled
from engine.runs import Runs
from tests.engine.small import config

FIGURES = Figures(
    order=8,
    rank=6,
    largest=20.0,
    smallest=0.0,
    smallest_nonzero=0.2,
    condition=100.0,
    damped=5.0,
    beta=5.0,
    parts=2,
    part_conditions=(10.0, 20.0, 100.0),
    quantiles=(0.2, 0.3, 0.5, 1.0, 2.0, 10.0, 20.0),
    method="gram",
    error=1e-14,
    samples=4,
)
LANCZOS = replace(
    FIGURES, rank=None, method="lanczos", quantiles=(), part_conditions=None, samples=2
)


def spectrum(seed=0, variant="plain", hessian="W", figures=FIGURES):
    return BlockSpectrum(variant, seed, "1", "4 → 2, relu", hessian, figures)


DIAGNOSIS = Diagnosis(
    {"method": "exact", "samples": 4, "at": "initial"},
    (spectrum(), spectrum(hessian="z", figures=LANCZOS), spectrum(variant="skip")),
    (Angle("plain", 0, "1", math.nan, 0.1, 20.0), Angle("plain", 0, "3", 1.0, None, None)),
    (),
    ("a note",),
)


def test_document_and_back():
    document = json.loads(json.dumps(DIAGNOSIS.document(), allow_nan=False))
    found = from_document(document, "test")
    assert found.spectra == DIAGNOSIS.spectra
    assert math.isnan(found.angles[0].cosine)
    assert found.angles[1] == DIAGNOSIS.angles[1]
    assert (found.about, found.notes) == (DIAGNOSIS.about, DIAGNOSIS.notes)
    data = Diagnosis({}, data=(DataSpectrum("unit", 9, FIGURES),))
    assert from_document(data.document(), "test") == data


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"spectra": [{}]},
        {"spectra": 3},
        {"angles": [[]]},
        {"about": None},
    ],
)
def test_what_is_no_diagnosis(change):
    with pytest.raises(StorageError, match=r"^there: not a diagnosis"):
        from_document({**DIAGNOSIS.document(), **change}, "there")
    with pytest.raises(StorageError):
        from_document([], "there")


def test_means_over_seeds_are_of_logarithms():
    conditions = (10.0, 100.0, 1000.0)
    spectra = [
        spectrum(seed, figures=replace(FIGURES, condition=condition))
        for seed, condition in enumerate(conditions)
    ]
    (row,) = summarise(spectra)
    found = row.statistics["log10_condition"]
    assert (found.mean, found.n) == (2.0, 3)
    assert found.ci95 == pytest.approx(4.302652730 / math.sqrt(3))
    assert row.statistics["log10_damped"].ci95 == 0.0
    one_without = [*spectra, spectrum(3, figures=replace(FIGURES, condition=None))]
    assert "log10_condition" not in summarise(one_without)[0].statistics


def test_tables():
    rows = spectra_rows(DIAGNOSIS)
    assert rows[0] == [
        *("plain", "1: 4 → 2, relu", "H_W", "8", "6"),
        *("20.0", "0.200", "2.00", "0.70", "5.00"),
    ]
    # bounds are told as that, and that fewer samples were taken
    assert rows[1][2:] == [
        *("H_z (2 samples)", "8", "-"),
        *("≥ 20.0", "≤ 0.200", "≥ 2.00", "≥ 0.70", "5.00"),
    ]
    assert angle_rows(DIAGNOSIS) == [
        ["plain", "1", "-", "-", "0.100", "20.0"],
        ["plain", "3", "0.0°", "1.0000", "-", "-"],
    ]
    (row,) = data_rows(Diagnosis({}, data=(DataSpectrum("unit", 9, FIGURES),)))
    assert row == ["unit", "8", "6", "20.0", "0", "0.200", "100", "5.00", "5.00"]


def test_every_column_that_needs_it_is_explained():
    told = "\n".join((*spectra_legend(DIAGNOSIS), *ANGLE_LEGEND))
    terms = ("H_W", "H_z", "order", "rank", "least > 0", "cond", "damped", "beta", "≥", "at least")
    assert all(term in told for term in terms)
    whole = replace(DIAGNOSIS, spectra=(spectrum(),))
    assert "≥" not in "\n".join(spectra_legend(whole))
    assert {"damped", "beta"} <= {text.partition(":")[0] for text in DATA_LEGEND}


def test_the_damping_is_in_the_document():
    rows = DIAGNOSIS.document()["summary"]
    assert [row["beta"] for row in rows] == [5.0, 5.0, 5.0]


def test_angles_in_degrees():
    assert Angle("plain", 0, "1", 0.5, None, None).degrees == pytest.approx(60)
    assert Angle("plain", 0, "1", 1 + 1e-12, None, None).degrees == 0


def test_csv(tmp_path):
    path = tmp_path / "a.csv"
    assert write_csv(path, DIAGNOSIS) == 3
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["hessian"] for row in rows] == ["W", "z", "W"]
    assert float(rows[0]["condition"]) == 100.0
    assert float(rows[0]["part_condition_median"]) == 20.0
    assert rows[0]["quantiles"].split()[3] == "1"
    assert (rows[1]["rank"], rows[1]["part_condition_least"]) == ("", "")


def test_kept_in_the_folder_of_the_run(tmp_path):
    run = Runs(tmp_path).create(config())
    assert read_kept(run) is None
    keep(run, DIAGNOSIS)
    path = run.path / "diagnosis.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_kept(run).spectra == DIAGNOSIS.spectra
    for content in (b"{", b"\xff\xfe", b"[]", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(StorageError, match="not a diagnosis"):
            read_kept(run)
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError, match="expected a file of proxprop, found a folder"):
        read_kept(run)
    with pytest.raises(StorageError, match="expected a file of proxprop, found a folder"):
        keep(run, DIAGNOSIS)
    path.rmdir()
    Runs(tmp_path).delete(run)
    with pytest.raises(StorageError):
        keep(run, DIAGNOSIS)


def test_figure():
    seeds = (*DIAGNOSIS.spectra, *(replace(one, seed=1) for one in DIAGNOSIS.spectra))
    with styled():
        figure = draw_conditioning(replace(DIAGNOSIS, spectra=seeds))
        spectra, conditions, damped = (figure.axes[2 * n] for n in range(3))
        assert len(artists(spectra, "range")) == 2
        assert len(artists(spectra, "median")) == 2
        assert [axes.get_yscale() for axes in figure.axes] == ["log"] * 6
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        keys = ["median", "quartiles", "range"]
        assert texts == ["plain", "skip", *keys, "lower bound"]
        assert conditions.get_ylabel() == "Condition number"
        assert damped.get_xlabel() == "Block"
        assert render(figure, "png")[:4] == b"\x89PNG"
        data = Diagnosis({}, data=(DataSpectrum("unit", 9, FIGURES),))
        figure = draw_conditioning(data)
        assert len(artists(figure.axes[0], "range")) == 1
        assert [text.get_text() for text in figure.legends[0].get_texts()] == keys


def test_blocks_are_called_as_in_the_table():
    def blocks(variant, *names):
        return [replace(spectrum(variant=variant), block=name) for name in names]

    def labels(*spectra):
        with styled():
            axes = draw_conditioning(Diagnosis({}, spectra=spectra)).axes[-1]
        return [text.get_text() for text in axes.get_xticklabels()]

    plain = blocks("plain", "1", "3", "5")
    assert labels(*plain) == ["1", "3", "5"]
    # batch normalisation shifts the numbers of modules
    assert labels(*plain, *blocks("batch-norm", "1", "4", "7")) == ["1", "3/4", "5/7"]
