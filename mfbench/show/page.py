"""The results for people: a table for the terminal and one self-contained page. Never loads torch."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import holoviews as hv
import pandas as pd
from bokeh.embed import components
from bokeh.util.paths import bokehjs_path

from mfbench.data.cases import case as find_case
from mfbench.errors import UserError
from mfbench.files import replacing
from mfbench.results.curves import Curves, curves
from mfbench.results.evidence import Evidence
from mfbench.results.folder import RunFolder
from mfbench.results.origin import origin
from mfbench.results.paired import Stored, nothing_stored
from mfbench.results.rows import case_rows, with_setup
from mfbench.results.schema import CONVENTION, EXTERNAL
from mfbench.show import plots
from mfbench.show.html import (
    STYLE,
    arm_html,
    best_html,
    card_html,
    errors_html,
    fewer_html,
    gaps_html,
    legend_html,
    notes_html,
    physical_html,
    spread_html,
)
from mfbench.show.styles import arm_order, arm_style
from mfbench.show.tables import gap_rows, parts_of, physical_table, sections, spread_rows
from mfbench.show.words import CLAIM, GAP_CONVENTION, INFERRED, PART_LABELS, n_low_text, seeds_text

# The page

PAGE_STYLE = """
html{background:var(--paper,#fff)}
body{margin:0}
main{max-width:1320px;margin:0 auto;padding:28px 32px 56px}
h1{font-size:30px;line-height:1.2;margin:0 0 .3em;letter-spacing:-.01em}
h2{font-size:23px;line-height:1.25;margin:2.2em 0 .2em;padding-top:.9em;border-top:1px solid var(--line)}
h3{font-size:17px;margin:1.6em 0 .2em}
.lead{font-size:17px}
.mfb .facts{max-width:none;color:var(--soft)}
.plots{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:8px 36px;margin:1em 0}
.plots>div{min-width:0}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15em 1.4em;font-size:15px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media(max-width:900px){main{padding:18px 14px 40px}.plots{grid-template-columns:minmax(0,1fr);gap:26px}
 h1{font-size:25px}h2{font-size:20px}.mfb table{font-size:14px}.mfb th,.mfb td{padding:.3em .55em}}
@media print{main{max-width:none;padding:0}.plots,.card{break-inside:avoid}}
"""


class Plots:
    """The plots of a page: each leaves its place in the text, where it comes to stand in the end."""

    def __init__(self) -> None:
        self._figures: dict[str, Any] = {}

    def place(self, element: hv.Element) -> str:
        """What stands for a plot until then; no text from elsewhere is like it, as that is escaped."""
        name = f"<!--plot {len(self._figures)}-->"
        self._figures[name] = hv.render(element, backend="bokeh")
        return name

    def embedded(self, text: str) -> str:
        """The text with the plots in their places, and the script that draws them; BokehJS must be on the page."""
        if not self._figures:
            return text
        script, divs = components(self._figures)
        for name, div in divs.items():
            text = text.replace(name, div)
        return f"{text}\n{script}"


def write_html(
    table: pd.DataFrame,
    path: Path,
    provenance: Mapping[str, str],
    system: str = "kcal/mol",
    cases: Mapping[str, tuple[str, str]] | None = None,
    stored: Stored = nothing_stored,
) -> None:
    """Write the results as one page that needs nothing else: it opens from disk, without a network.

    Args:
        table: the results table.
        path: where the page goes; it appears whole, by rename.
        provenance: what to say about where the numbers come from (device, date, commit, versions).
        system: unit system shown, ``kcal/mol`` or ``meV``.
        cases: case name -> (title, basis), texts of the case files.
        stored: see ``results.summary``.

    Raises:
        UserError: the table is empty or the unit system unknown.
    """
    figures = Plots()
    found = sections(table)
    evidence = evidence_of(table, found, stored)
    body = [section_html(table, one, system, cases or {}, figures.place, evidence[one]) for one in found]
    page = document(
        "Multi-fidelity learning of interatomic potentials: results",
        f"<style>{STYLE}{PAGE_STYLE}</style><script>{bokeh_js()}</script>",
        figures.embedded(
            "\n".join(
                [
                    "<main>",
                    opening_html(table, evidence),
                    *body,
                    gap_html(evidence, system),
                    closing_html(provenance),
                    "</main>",
                ]
            )
        ),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def document(title: str, head: str, body: str) -> str:
    """A whole page.

    Args:
        title: plain text.
        head, body: HTML.
    """
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            # Without an icon of its own a browser asks the network for one.
            '<link rel="icon" href="data:,">',
            head,
            f'</head>\n<body class="mfb">\n{body}\n</body>\n</html>\n',
        ]
    )


def publish(
    table: pd.DataFrame,
    path: Path,
    provenance: Iterable[Path],
    system: str = "kcal/mol",
    stored: Stored = nothing_stored,
) -> None:
    """``write_html`` with the texts of the case files and what the provenance files of the runs say."""
    came = origin(RunFolder(file.parent).provenance() for file in provenance)
    write_html(table, path, came, system, case_texts(table), stored)


def case_texts(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Titles and bases of the cases in a table, as their files have them."""
    texts: dict[str, tuple[str, str]] = {}
    for name in set(table["case"]):
        try:
            texts[name] = (find_case(name).title, find_case(name).basis)
        except UserError:  # a case of somebody's own, whose file is not at hand: its name is all there is
            continue
    return texts


def bokeh_js() -> str:
    """BokehJS itself. Not ``bokeh.resources``: once Panel is imported, that adds links to its own server."""
    code = (bokehjs_path() / "js" / "bokeh.min.js").read_text(encoding="utf-8")
    # It would fetch MathJax for a text between dollar signs: nothing here is one, and the page stays offline.
    code = re.sub(r'https://cdn\.[^"\']*', "data:text/javascript,", code)
    return code.replace("</script", "<\\/script")


Section = tuple[str, tuple[str, ...]]  # a case, and its (data, backbone, preset)


def evidence_of(table: pd.DataFrame, found: Sequence[Section], stored: Stored) -> dict[Section, dict[str, Evidence]]:
    """What each part of each section says."""
    rows = {(case, setup): with_setup(case_rows(table, case), setup) for case, setup in found}
    return {
        (case, setup): {part: Evidence(own, case, part, stored=stored) for part in parts_of(own, case)}
        for (case, setup), own in rows.items()
    }


def titles(found: Iterable[Section]) -> dict[Section, str]:
    """Section titles: the case alone where that is unique, else with its setup."""
    found = list(found)
    names = [case for case, _ in found]
    return {(c, s): c if names.count(c) == 1 else f"{c} ({', '.join(s)})" for c, s in found}


def opening_html(table: pd.DataFrame, evidence: Mapping[Section, Mapping[str, Evidence]]) -> str:
    seeds = table["seed"].nunique()
    spread = (
        "These are results of <strong>one seed</strong>: they say nothing of the spread over seeds."
        if seeds == 1
        else f"Numbers are geometric means over up to {seeds} seeds."
    )
    data = ", ".join(sorted(set(table["data"])))
    arms = "".join(
        f"<li>{arm_html(arm)} <span class='soft'>{escape(arm_style(arm).trained_on)}</span></li>"
        for arm in arm_order(table["arm"])
    )
    cards = "".join(card_html(with_setup(table, one[1]), one[0], own=own["test"]) for one, own in evidence.items())
    return (
        "<h1>Low-level forces and high-level energies: are they all you need?</h1>"
        f'<p class="lead">{escape(CLAIM)} {escape(INFERRED)} Data: {escape(data)}. {spread}</p>'
        f'<ul class="arms">{arms}</ul>'
        f'<div class="cards">{cards}</div>'
    )


def section_html(
    table: pd.DataFrame,
    section: Section,
    system: str,
    cases: Mapping[str, tuple[str, str]],
    place: Callable[[hv.Element], str],
    evidence: Mapping[str, Evidence],
) -> str:
    case, setup = section
    rows = with_setup(case_rows(table, case), setup)
    title, basis = cases.get(case, ("", ""))
    data, backbone, preset = map(escape, setup)
    own = rows[rows["preset"] != EXTERNAL]  # of other codes' trainings nothing is known
    steps = sorted({int(s) for s in own.loc[own["n"] > 0, "steps"]})
    seconds = own.drop_duplicates("run")["seconds"]
    facts = [
        f"data {data}, network {backbone}, preset {preset}",
        n_low_text(rows),
        seeds_text(rows),
        f"{', '.join(f'{s:,}' for s in steps)} steps" if steps else "",
        f"{seconds.median():.0f} s a training (median)" if seconds.notna().any() else "",
    ]
    text = [
        f"<section><h2>{escape(case)}{': ' + escape(title) if title else ''}</h2>",
        f"<p>{escape(basis)}</p>" if basis else "",
        f'<p class="facts">{"; ".join(fact for fact in facts if fact)}.</p>',
    ]
    for part, said in evidence.items():
        quantities = ("energy", "force")
        panels = [curves(rows, case, name, "mae", system, part, spread=said.summary) for name in quantities]
        text += [
            f"<h3>{part.capitalize()} part: {PART_LABELS[part]}</h3>",
            legend_html(rows["arm"]),
            f'<div class="plots">{"".join(_panel(found, place) for found in panels)}</div>',
            errors_html(rows, case, part, system),
            spread_html(spread_rows(said.summary, system), system),
            fewer_html(said),
            best_html(said),
        ]
    if checks := physical_html(physical_table(table, case, setup)):
        text += ["<h3>Physical checks: what the models do, beside their errors</h3>", checks]
    return "\n".join([*text, "</section>"])


def _panel(found: Curves, place: Callable[[hv.Element], str]) -> str:
    """One plot, or why there is none, and what must be known to read it."""
    plot = place(plots.draw(found)) if len(found.runs) else ""
    return f"<div>{plot}{notes_html(plots.notes(found))}</div>"


def gap_html(evidence: Mapping[Section, Mapping[str, Evidence]], system: str) -> str:
    """The gap closed in all cases and parts."""
    gaps = [
        (title if part == "test" else f"{title}, {part}", gap_rows(own.summary, system))
        for section, title in titles(evidence).items()
        for part, own in evidence[section].items()
    ]
    gap = gaps_html(gaps, system) or '<p class="soft">No arm beside SF-E and SF-EF yet.</p>'
    return f"<section><h2>Gap closed</h2><p>{escape(GAP_CONVENTION)}</p>{gap}</section>"


def closing_html(provenance: Mapping[str, str]) -> str:
    """How the numbers are made, and where they come from."""
    written = {"page written": datetime.now().astimezone().isoformat(timespec="seconds"), **provenance}
    items = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in written.items())
    return (
        f"<section><h2>How the numbers are made</h2><p>{escape(CONVENTION)} n<sub>high</sub> counts every "
        "high-level structure an arm used, validation included; n<sub>low</sub> the low-level structures "
        "trained on. n = 0 says that there was nothing to train on or to compare with.</p></section>"
        f"<section><h2>Provenance</h2><dl>{items}</dl></section>"
    )
