"""Cards that choose one of a few things, each saying what matters of it. Only pages import this: it needs panel."""

from pathlib import Path
from typing import ClassVar

import param
from panel.custom import JSComponent

_HERE = Path(__file__).parent


class Cards(JSComponent):
    """Buttons, one a thing, one of which is chosen, with mouse or keyboard."""

    cards: list[dict[str, str]] = param.List(default=[], doc="name and html of each.")  # type: ignore[assignment]
    chosen = param.String(doc="Name of one of them.")

    _esm = _HERE / "cards.js"
    _stylesheets: ClassVar = [(_HERE / "cards.css").read_text("utf-8")]
