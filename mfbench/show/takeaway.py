"""What stands beside a figure or a table of a page: buttons to take it away. Only pages import this: it needs panel."""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import param
from panel.custom import JSComponent

from mfbench.errors import UserError, unknown
from mfbench.show import sheets
from mfbench.show.sheets import Sheet

if TYPE_CHECKING:
    from mfbench.show.paper import Figure

_HERE = Path(__file__).parent

_KINDS = {  # format: its button, what that does, MIME type
    "png": ("PNG", "The figure as a picture", "image/png"),
    "svg": ("SVG", "The figure as a drawing, which can be scaled", "image/svg+xml"),
    "csv": ("CSV", "The numbers in full", "text/csv"),
    "md": ("Markdown", "The table as Markdown", "text/markdown"),
    "latex": ("LaTeX", "The table as LaTeX", "text/x-tex"),
}


class TakeAway(JSComponent):
    """Buttons that make a file of what a page shows, when they are pressed, and one that copies its address.

    Each callable gives what the page shows at that moment: a ``Figure`` (PNG, SVG, and its numbers as CSV), a ``Sheet``
    (CSV, Markdown, LaTeX), or a table of numbers (CSV), which goes before the numbers of a figure. It is called beside
    the server's loop, in a thread.
    """

    what = param.String(default="view", doc="What is taken away: of screen readers, and of files without a name.")
    formats: list[dict[str, str]] = param.List(default=[], doc="The buttons.")  # type: ignore[assignment]
    address = param.Boolean(default=True, doc="Whether there is a button that copies it: one a page is enough.")

    _esm = _HERE / "takeaway.js"
    _stylesheets: ClassVar = [(_HERE / "takeaway.css").read_text("utf-8")]

    def __init__(
        self,
        what: str,
        figure: "Callable[[], Figure] | None" = None,
        table: Callable[[], Sheet] | None = None,
        data: Callable[[], pd.DataFrame] | None = None,
        **params: Any,
    ) -> None:
        self._figure, self._table, self._data = figure, table, data
        formats = [*(["png", "svg"] if figure else []), "csv", *(["md", "latex"] if table else [])]
        if not (figure or table or data):
            formats = []
        buttons = [{"format": one, "label": _KINDS[one][0], "title": _KINDS[one][1]} for one in formats]
        super().__init__(what=what, formats=buttons, **params)
        self.on_msg(self._pressed)

    def file(self, format: str) -> tuple[str, bytes]:
        """Name and content of the file that a button gives.

        Args:
            format: ``png``, ``svg``, ``csv``, ``md`` or ``latex``.

        Raises:
            UserError: there is no such button, or nothing to show.
        """
        if format not in (known := [one["format"] for one in self.formats]):
            raise unknown("format", format, known)
        name, content = self._made(format)
        return f"{sheets.file_name(name)}.{sheets.ENDINGS.get(format, format)}", content

    def _made(self, format: str) -> tuple[str, bytes]:
        if format == "csv" and self._data is not None:
            return self.what, self._data().to_csv(index=False, lineterminator="\n").encode()
        if self._table is not None and format in sheets.FORMATS:
            sheet = self._table()
            return sheet.numbers.name, sheets.FORMATS[format](sheet).encode()
        assert self._figure is not None
        found = self._figure()
        if format == "csv":
            return found.numbers.name, sheets.as_csv(found.numbers).encode()
        from mfbench.show import paper  # Matplotlib: when the first figure is asked for

        return found.numbers.name, paper.as_bytes(found, format)

    async def _pressed(self, event: Any) -> None:
        answer = {"format": event.data, "problem": "it could not be made: the server's log says why"}
        try:
            name, content = await asyncio.to_thread(self.file, event.data)
            made = b64encode(content).decode()
            answer = {"format": event.data, "name": name, "mime": _KINDS[event.data][2], "content": made}
        except UserError as error:
            answer["problem"] = str(error)
        finally:
            self._send_msg(answer)
