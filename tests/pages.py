"""Small pages on the shell that all have, for tests of what is around pages: servers, proxies, notebooks."""

import sys
from pathlib import Path

PAGE = """
from html import escape

import holoviews as hv
import panel as pn

from mfbench.show.shell import Html, View, figure, serve
from mfbench.show.still import curves_picture


class Page(View):
    choices = ("arms", "system")

    def build(self):
        self.said = Html()
        self.on_change(self.show)
        return pn.Column(self.said, figure(hv.Curve([(1, 2), (3, 4)])))

    def show(self):
        self.said.say(f"<p>NAME shows {escape(self.selection.chosen.system)}</p>")

    def still(self):
        return curves_picture(self.selection.chosen)


if pn.state.served:
    serve(Page, "NAME")
"""

# Runs mfbench with the pages of a folder.
COMMAND = """
import sys; from pathlib import Path; from mfbench import resources; from mfbench.cli.main import main
resources.dashboards = lambda: Path(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


def write_pages(folder: Path, names: tuple[str, ...] = ("overview", "curves")) -> Path:
    """A folder of pages."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text(PAGE.replace("NAME", name))
    return folder


def mfbench_with(pages: Path) -> list[str]:
    """The command ``mfbench``, with these pages."""
    return [sys.executable, "-c", COMMAND, str(pages)]
