"""A command to copy out of a page. Only pages import this: it needs panel."""

from pathlib import Path
from typing import ClassVar

import param
from panel.custom import JSComponent

_HERE = Path(__file__).parent


class Command(JSComponent):
    """A command, and a button that copies it; or why there is none."""

    text = param.String(doc="The command; empty where there is none.")
    why = param.String(doc="Why there is none.")

    _esm = _HERE / "command.js"
    _stylesheets: ClassVar = [(_HERE / "command.css").read_text("utf-8")]
