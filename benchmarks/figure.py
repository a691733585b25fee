"""The README's figure: learning curves of the shipped demo run, drawn in a headless Chromium.

python benchmarks/figure.py --out benchmarks/results/demo.png
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import holoviews as hv
from bokeh.embed import file_html
from bokeh.layouts import gridplot
from bokeh.resources import INLINE
from playwright.sync_api import sync_playwright

from mfbench.results.reference import reference_table
from mfbench.show import plots

CASES = ("ani1x-tz", "ani1ccx", "rmd17-cc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo.png"))
    args = parser.parse_args()
    hv.extension("bokeh")
    table = reference_table()
    rows = [[hv.render(plots.learning_curve(table, case, q)) for case in CASES] for q in ("energy", "force")]
    page = file_html(gridplot(rows, toolbar_location=None, sizing_mode="stretch_width"), INLINE)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        html = Path(folder) / "figure.html"
        html.write_text(page, encoding="utf-8")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(viewport={"width": 1700, "height": 600})
        tab.goto(html.as_uri())
        tab.wait_for_timeout(2000)
        tab.screenshot(path=str(args.out), full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
