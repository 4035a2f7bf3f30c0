"""Texts of runs in the Markdown report are texts, whatever is in them."""

from __future__ import annotations

import re

import pytest

from engine.cells import read_cells
from engine.comparison import compare
from engine.experiments import EXPERIMENTS
from engine.markdown_report import write_report
from engine.stability import summarize_sweep
from engine.sweep_plan import Row, plan_sweep
from engine.sweeps import Sweep
from tests.engine.small import config

EVIL = (
    "/data/```\n```\n<script>alert(1)</script>\n~~~\n",
    "a | b <b>bold</b> [link](javascript:x) ![i](x) `code` *e* _e_ &lt;i&gt; ~~s~~ \\",
    "``````\n\n# heading <i>",
)


def report(sweep: Sweep, tmp_path, facts) -> str:
    return write_report(
        EXPERIMENTS["usps"],
        sweep,
        compare(tmp_path, sweep),
        summarize_sweep(sweep, read_cells(tmp_path, sweep)),
        facts,
        command=f"proxprop reproduce {facts['data']}",
        figures=[],
    )


@pytest.mark.parametrize("evil", EVIL)
def test_no_text_of_a_run_becomes_markup(tmp_path, evil) -> None:
    rows = [
        Row(f"cg3 {evil}", config("cg3", data__root=evil, data__label=evil[:200]), (0.5,)),
        Row("exact", config("exact", data__root=evil, data__label=evil[:200], name=evil), (0.5,)),
    ]
    text = report(plan_sweep("usps", rows, (0,), kind="comparison"), tmp_path, {"data": evil})
    lines = text.splitlines()
    fence = next(line for line in lines if line.endswith("yaml") and line.startswith("```"))
    fence = fence.removesuffix("yaml")
    first, last = (number for number, line in enumerate(lines) if line.startswith(fence))
    inside = "\n".join(lines[first + 1 : last])
    assert max(map(len, re.findall("`+", inside)), default=0) < len(fence)
    outside = lines[:first] + lines[last + 1 :]
    widths = {line.count("|") - line.count("\\|") for line in outside if line.startswith("| ")}
    assert len(widths) <= len([line for line in outside if line.startswith("| ---")])
    for line in outside:
        # code is what stands between as many backticks
        prose = re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", line)
        assert not re.search(r"(?<!\\)(<\w|\[link|\[i|&lt;|~~|\*e|\b_e)", prose), line
        assert not line.startswith("# heading")
