"""One legend for all panels of a page: it names arms, hides and shows them. Only pages import this: it needs panel."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import param
from panel.custom import JSComponent

from mfbench.results.curves import Curves
from mfbench.show.html import arm_html, key_html
from mfbench.show.plots import missing_arms
from mfbench.show.styles import arm_order

_HERE = Path(__file__).parent


class ArmSwitches(JSComponent):
    """Buttons, one an arm, with its marker in its colour; pressed, with mouse or keyboard, an arm is hidden or shown.

    An arm without a number in any panel says so (n = 0), and why.
    """  # No name that ends with Legend: panel-material-ui would dress it as one of bokeh's.

    entries: list[dict[str, str]] = param.List(default=[], doc="name, label (HTML) and note.")  # type: ignore[assignment]
    hidden: list[str] = param.List(default=[], doc="Names of arms.")  # type: ignore[assignment]
    key = param.String(doc="What dashes and hollow markers tell (HTML).")

    _esm = _HERE / "legend.js"
    _stylesheets: ClassVar = [(_HERE / "legend.css").read_text("utf-8")]

    def of(self, arms: Sequence[str], panels: Sequence[Curves], hidden: Sequence[str] = ()) -> None:
        """Name these arms, whether or not they are hidden in the panels."""
        drawn = {arm for found in panels for arm in found.runs["arm"]}
        missing: dict[str, str] = {}
        for found in panels:
            missing = missing_arms(found) | missing
        entries = []
        for arm in arm_order(arms):
            note = "" if arm in drawn or arm in hidden else missing.get(arm, "")
            label = arm_html(arm) + ("<small> (n = 0)</small>" if note else "")
            entries.append({"name": arm, "label": label, "note": note})
        rests = sorted({rest for found in panels for rest in found.points["rest"]})
        self.param.update(entries=entries, hidden=list(hidden), key=key_html(rests))
