"""Molecules that can be turned, with arrows at their atoms: a Panel component on 3Dmol.js, which ships with mfbench.

Only pages import this module: it needs panel. What it shows is a ``scenes.Scene``.
"""

from pathlib import Path
from typing import Any

import panel as pn
import param

from mfbench.show.scenes import Scene, drawing, picture

LIBRARY = "vendor/3Dmol.es6-min.js"  # 2.5.5, of npm's package 3dmol, unchanged


class Molecules(pn.custom.JSComponent):
    """The molecules of a scene, beside each other, that turn together; all on a page share one WebGL context.

    A page of a server loads the library once, by its address; a page without one (a notebook, a file) carries it. A
    browser that has no WebGL, and a printer, get the still picture.
    """

    drawing = param.Dict(default={}, doc="What is drawn: see ``scenes.drawing``.")
    picture = param.String(default="", doc="The same as SVG.")

    _esm = "molecule.js"
    _bundle = "molecule.js"
    _js = (LIBRARY,)  # what a server may hand out beside it

    def __init__(self, scene: Scene | None = None, **params: Any) -> None:
        super().__init__(**{"sizing_mode": "stretch_width", **params})
        if scene is not None:
            self.draw(scene)

    def draw(self, scene: Scene) -> None:
        """Show another scene in the place of this one; how it is turned stays."""
        self.param.update(drawing=drawing(scene), picture=picture(scene))

    @classmethod
    def _render_esm(cls, compiled: Any = True, server: bool = False) -> str:
        text: str = super()._render_esm(compiled, server)
        if text.endswith(cls._bundle):  # an address
            return text
        statement, _, own = text.partition("\n")
        if not statement.startswith("import {createViewer} from "):
            raise AssertionError(f"molecule.js: expected the import of 3Dmol.js in its first line, got {statement!r}")
        return f"{(Path(__file__).parent / LIBRARY).read_text('utf-8')}\n{own}"
