"""Pictures that stand in for a page where nothing is alive: in exported notebooks, and without JavaScript."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from mfbench.errors import UserError
from mfbench.show.selection import Chosen

# Bokeh fills the element that it finds; where it does not, the picture is what is seen.
_CSS = "<style>.mfb-live:has([data-root-id] > *) + .mfb-still { display: none } .mfb-still { max-width: 100% }</style>"


def with_picture(data: Mapping[str, Any], picture: bytes) -> dict[str, Any]:
    """What a notebook keeps of an output, by MIME type, and a picture (PNG) for where that shows nothing."""
    source = b64encode(picture).decode()
    found = {**data, "image/png": source}
    if "text/html" in data:
        image = f'<img class="mfb-still" alt="A picture of this page" src="data:image/png;base64,{source}">'
        found["text/html"] = f'{_CSS}<div class="mfb-live">{data["text/html"]}</div>{image}'
    return found


def curves_picture(chosen: Chosen) -> bytes | None:
    """The learning curves of what is chosen; None where there are none."""
    from mfbench.show.figures import learning_curve  # Matplotlib, which pages do without
    from mfbench.show.paper import as_bytes

    quantities = (chosen.quantity, "force")
    try:
        figure = learning_curve(
            chosen.recipe, chosen.case, chosen.part, chosen.metric, chosen.system, quantities, chosen.arms
        )
        return as_bytes(figure, "png", "7in", 9.0)
    except UserError:
        return None
