"""One run, or several over one another: curves, layers, solver, log; and control over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message

from proxprop_cli.dashboard.screens.live_control import RunControl
from proxprop_cli.dashboard.screens.live_exports import LiveExports
from proxprop_cli.dashboard.screens.live_view import ViewKeys
from proxprop_cli.dashboard.views import Member, RunView
from proxprop_cli.dashboard.widgets.chart import Chart
from proxprop_cli.dashboard.widgets.key_line import KeyLine
from proxprop_cli.dashboard.widgets.log_pane import LogPane
from proxprop_cli.dashboard.widgets.notice import Notice
from proxprop_cli.dashboard.widgets.run_header import RunHeader
from proxprop_cli.dashboard.widgets.table import Table


class LiveScreen(ViewKeys, RunControl, LiveExports):
    """Shows runs, wherever they are trained."""

    CSS_PATH = "live.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "runs", "Runs", tooltip="The list of runs"),
        Binding("x", "x_axis", "Axis", tooltip="x: step, epoch, wall time, process time, work"),
        Binding("y", "log_y", "Log", tooltip="Logarithmic y axis of the chart in use"),
        Binding("X", "log_x", "Logarithmic x axis", key_display="X", show=False),
        Binding("b", "band", "Band", tooltip="Seeds of a row: mean and range, or each by itself"),
        Binding("e", "export", "Export", tooltip="Export: curves, metrics or the screen"),
        Binding("c", "diagnose", "Conditioning", tooltip="Local Hessians, measured", show=False),
        Binding("i", "images", "Images", tooltip="Images: what an autoencoder makes of samples"),
        Binding("m", "smooth", "Smooth", tooltip="Smooth the loss: less, more, not at all"),
        Binding("v", "metric", "Several runs: compare by which loss", show=False),
        Binding("plus,equals_sign", "zoom(2.0)", "Zoom in", show=False),
        Binding("minus", "zoom(0.5)", "Zoom out", show=False),
        Binding("h,left", "pan(-0.2)", "Pan left", show=False),
        Binding("l,right", "pan(0.2)", "Pan right", show=False),
        Binding("j,down", "shift(-0.1)", "Move down", show=False),
        Binding("k,up", "shift(0.1)", "Move up", show=False),
        Binding("r", "reset", "Show everything again", show=False),
        *(Binding(str(n), f"pane({n})", f"Pane {n}", show=False) for n in range(1, 6)),
        Binding("tab", "next_pane(1)", "Next pane", show=False),
        Binding("shift+tab", "next_pane(-1)", "Previous pane", show=False),
        Binding("enter", "enlarge", "Enlarge the pane, or not any more", show=False),
        Binding("slash", "filter", "Look for runs", show=False),
    ]

    class ViewsChanged(Message):
        """At least one of the runs has changed; only the newest of these matters."""

        def __init__(self, views: tuple[RunView, ...]) -> None:
            super().__init__()
            self.views = views

        def can_replace(self, message: Message) -> bool:
            """An older one that has not been handled is dropped."""
            return isinstance(message, LiveScreen.ViewsChanged)

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(tuple(members))

    def compose(self) -> ComposeResult:
        """Header, what is to be said first, five panes, footer."""
        yield RunHeader(id="header")
        yield Notice(id="notice")
        with Container(id="panes"):
            yield Chart(id="loss")
            yield Chart(id="accuracy", classes="chosen")
            yield Table(id="layers")
            yield Chart(id="solver")
            yield LogPane(id="log")
        yield KeyLine()

    def on_mount(self) -> None:
        """Begin to follow the runs, once the first frame is there."""
        self.query_one("#layers", Table).frame(["3 Layers"])
        self.query_one("#log").border_title = "5 Log"
        self.query_one("#loss", Chart).log_y = True
        self.query_one("#solver", Chart).log_y = True
        self.query_one("#loss").focus()
        self.call_after_refresh(self._follow)

    def on_unmount(self) -> None:
        """Let go of the stores."""
        if self.poller is not None:
            self.poller.stop()

    def _follow(self) -> None:
        from proxprop_cli.dashboard.poller import Poller

        self.poller = Poller(self.members, self._tell)
        self.ask()
        self.poller.start()

    def _tell(self, views: tuple[RunView, ...]) -> None:
        if self.is_running:
            self.post_message(self.ViewsChanged(views))

    def on_live_screen_views_changed(self, message: ViewsChanged) -> None:
        """Show the runs as they are now."""
        self.views = message.views
        self.draw()
        self.offer()
        self.settle()

    def action_images(self) -> None:
        """Show what the autoencoders make of samples."""
        from proxprop_cli.dashboard.album import to_show
        from proxprop_cli.dashboard.screens.reconstructions import ReconstructionsScreen

        self.app.push_screen(ReconstructionsScreen(to_show(self.autoencoders, self.runs)))

    def on_table_moved(self) -> None:
        """Another layer was chosen."""
        self.draw_solver()
