"""Makes docs/images/dashboard.svg from a real training on the embedded digits.

python docs/screenshot.py
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from engine.runs import Runs

IMAGES = Path(__file__).parent / "images"
SIZE = (120, 36)


def train(folder: Path) -> str:
    """A run with conjugate gradients; gives its id."""
    command = [sys.executable, "-m", "proxprop_cli", "train", "--preset", "digits-mlp"]
    command += ["--method", "cg5", "--epochs", "12", "--plain", "--dir", str(folder)]
    subprocess.run([*command, "--set", "log.trace_every=5"], check=True)
    return Runs(folder).find("latest").id


async def picture(folder: Path, run: str, path: Path) -> None:
    """The live screen of a run as SVG."""
    # read when Textual is imported; whatever the terminal around this can show
    os.environ["TEXTUAL_COLOR_SYSTEM"] = "truecolor"
    from proxprop_cli.dashboard.app import Dashboard
    from proxprop_cli.dashboard.screens.live import LiveScreen

    app = Dashboard(Runs(folder), [run])
    async with app.run_test(size=SIZE) as pilot:
        while not (isinstance(app.screen, LiveScreen) and app.screen.views):
            await pilot.pause(0.05)
        while not app.screen.views[0].series:
            await pilot.pause(0.05)
        await pilot.press("x", "3", "j")
        await pilot.pause(0.2)
        path.write_text(app.export_screenshot(title="proxprop"), encoding="utf-8")


def main() -> None:
    """Train, then take the picture."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(Path(folder))
        IMAGES.mkdir(exist_ok=True)
        asyncio.run(picture(Path(folder), run, IMAGES / "dashboard.svg"))


if __name__ == "__main__":
    main()
