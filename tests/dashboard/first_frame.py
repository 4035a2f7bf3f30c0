"""Prints the seconds from the start of this process to the first frame of an app.

python first_frame.py empty | FOLDER RUN
"""

import time

START = time.clock_gettime(time.CLOCK_MONOTONIC)

import sys  # noqa: E402


def main() -> None:
    """Run the app until its first frame."""
    if sys.argv[1] == "empty":
        from textual.app import App
        from textual.containers import Container
        from textual.widgets import Footer, Static

        class Empty(App[None]):
            """As many panes as the dashboard, and nothing in them."""

            CSS = "Container { layout: grid; grid-size: 2; } Static { border: round $panel; }"

            def compose(self):
                yield Static()
                with Container():
                    for _ in range(5):
                        yield Static()
                yield Footer()

        app = Empty()
    else:
        from pathlib import Path

        from engine.runs import Runs
        from proxprop_cli.dashboard.app import Dashboard
        from proxprop_cli.dashboard.screens.live import LiveScreen

        app = Dashboard(Runs(Path(sys.argv[1])), [sys.argv[2]])

    def shown() -> None:
        app.exit(time.clock_gettime(time.CLOCK_MONOTONIC) - START)

    if sys.argv[1] == "empty":
        app.call_after_refresh(shown)
    else:
        # what the screen does once its first frame is there
        LiveScreen._follow = lambda self: shown()  # type: ignore[method-assign]
    sys.stdout.write(f"{app.run(headless=True, size=(120, 40))}\n")


if __name__ == "__main__":
    main()
