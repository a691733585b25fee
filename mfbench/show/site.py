"""A folder of pages for a course site: all that the results tell, without a server and without a network.

The pages share one style sheet and one copy of BokehJS, which lie beside them. Plots can be hovered over; molecules are
drawings. What comes from disk is escaped before it becomes HTML.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mfbench.data.manifest import manifest, manifest_names
from mfbench.data.overview import levels
from mfbench.errors import UserError
from mfbench.files import write_bytes
from mfbench.results.curves import curves
from mfbench.results.evidence import Evidence
from mfbench.results.library import Library
from mfbench.results.origin import origin
from mfbench.results.predictions import Predictions
from mfbench.results.rows import case_rows, with_setup
from mfbench.results.schema import QUANTITIES
from mfbench.show import figures, paper, plots, sheets
from mfbench.show.glossary import CASES, glossary_html
from mfbench.show.html import STYLE, best_html, legend_html
from mfbench.show.page import (
    PAGE_STYLE,
    Plots,
    Section,
    bokeh_js,
    case_texts,
    closing_html,
    document,
    evidence_of,
    gap_html,
    opening_html,
    section_html,
    titles,
)
from mfbench.show.parity import pairs, parity
from mfbench.show.scenes import picture
from mfbench.show.structures import beside, place_text, structure_scene, worst
from mfbench.show.tables import sections
from mfbench.show.words import PART_LABELS, level_label, number, pretty_unit
from mfbench.version import __version__

PAGES = {
    "index": "Overview",
    "curves": "Learning curves",
    "inside": "Inside a run",
    "data": "Data",
    "runs": "Runs",
    "glossary": "Words",
}

ASSETS, FILES = "assets", "files"  # folders: what all pages share, and what can be taken away

HEIGHT = 310  # px, of the curves on the first page

MOST_POINTS = 4000  # of a parity plot: all of them would make the page heavy

PICTURES = 3  # of the worst structures of a case

_HERE = Path(__file__).parent


def write_site(library: Library, folder: Path, system: str = "kcal/mol") -> Path:
    """Write what a library of results holds as a folder of pages.

    Files of other names in the folder stay as they are.

    Args:
        system: unit system shown, ``kcal/mol`` or ``meV``.

    Returns:
        The page to begin with.

    Raises:
        UserError: there are no finished runs, or the folder cannot be written.
    """
    table = library.table
    found = sections(table)
    evidence = evidence_of(table, found, library.predictions)
    came = origin(library.provenance(run) for run in table["run"].unique())
    files = _files(library, found, folder / FILES, system)
    pages = {
        "index": _overview(table, evidence, system),
        "curves": _curves(table, evidence, files, system),
        "inside": _inside(library, found, system),
        "data": _data(),
        "runs": _runs(library),
        "glossary": f"<h1>Ten words</h1>{glossary_html()}{closing_html(came)}",
    }
    write_bytes(folder / ASSETS / "bokeh.min.js", bokeh_js().encode())
    write_bytes(folder / ASSETS / "site.css", f"{STYLE}{PAGE_STYLE}{(_HERE / 'site.css').read_text('utf-8')}".encode())
    write_bytes(folder / ASSETS / "site.js", (_HERE / "site.js").read_bytes())
    for name, text in pages.items():
        write_bytes(folder / f"{name}.html", _page(name, text, came).encode())
    return folder / "index.html"


def _page(name: str, text: str, came: Mapping[str, str]) -> str:
    """One of the pages, with the way to the others."""
    links = "".join(
        f'<a href="{one}.html"{" aria-current=page" if one == name else ""}>{escape(title)}</a>'
        for one, title in PAGES.items()
    )
    made = ", ".join([f"mfbench {__version__}", *(f"{k} {came[k]}" for k in ("commit", "date") if k in came)])
    head = (
        f'<link rel="stylesheet" href="{ASSETS}/site.css">\n<script src="{ASSETS}/bokeh.min.js"></script>\n'
        f'<script src="{ASSETS}/site.js" defer></script>'
    )
    body = (
        f'<header><nav aria-label="Pages"><strong>mfbench</strong>{links}</nav></header>\n<main>{text}</main>\n'
        f"<footer>{escape(made)}</footer>"
    )
    return document(f"{PAGES[name]} · mfbench", head, body)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[int] = (0,), kind: str = "") -> str:
    """A table of plain texts.

    Args:
        words: the columns that are no numbers.
        kind: a class of the style sheet.
    """
    place = [' class="left"' if k in words else "" for k in range(len(heads))]
    head = "".join(f"<th{where}>{escape(text)}</th>" for where, text in zip(place, heads))
    body = "".join(
        f"<tr>{''.join(f'<td{where}>{escape(text)}</td>' for where, text in zip(place, row))}</tr>" for row in rows
    )
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


# Pages


def _overview(table: pd.DataFrame, evidence: Mapping[Section, Mapping[str, Evidence]], system: str) -> str:
    """The claim, and what each case says of it."""
    placed = Plots()
    parts = [opening_html(table, evidence)]
    for section, title in titles(evidence).items():
        case, setup = section
        rows, own = with_setup(case_rows(table, case), setup), evidence[section]["test"]
        told = f"<p>{escape(CASES[case])}</p>" if case in CASES else ""
        drawn = [curves(rows, case, name, system=system, spread=own.summary) for name in ("energy", "force")]
        panels = "".join(f"<div>{placed.place(plots.draw(one, HEIGHT))}</div>" for one in drawn if len(one.runs))
        parts.append(
            f'<section><h2>{escape(title)}</h2>{told}<div class="plots">{panels}</div>{best_html(own)}</section>'
        )
    return placed.embedded("\n".join([*parts, '<p><a href="curves.html">All learning curves and numbers</a></p>']))


def _curves(
    table: pd.DataFrame, evidence: Mapping[Section, Mapping[str, Evidence]], files: Mapping[Section, str], system: str
) -> str:
    """All learning curves and tables, with what can be taken away of them."""
    placed, texts = Plots(), case_texts(table)
    parts = ["<h1>Learning curves</h1>"]
    for section, own in evidence.items():
        parts += [section_html(table, section, system, texts, placed.place, own), files[section]]
    return placed.embedded("\n".join([*parts, gap_html(evidence, system)]))


def _files(library: Library, found: Sequence[Section], folder: Path, system: str) -> dict[Section, str]:
    """Write what can be taken away of each section; gives the links to it."""
    links = {}
    for section, title in titles(found).items():
        case, setup = section
        rows = with_setup(case_rows(library.table, case), setup)
        came = origin(library.provenance(run) for run in rows["run"].unique())
        stored = library.predictions
        curve = figures.learning_curve(rows, case, system=system, stored=stored, origin=came)
        made = {("learning curve", one): paper.as_bytes(curve, one, "6.5in") for one in paper.FORMATS}
        made["learning curve", "csv"] = sheets.as_csv(curve.numbers).encode()
        for what, sheet in (
            ("errors", sheets.errors(rows, case, system=system, origin=came)),
            ("gap closed", sheets.gap(rows, case, system=system, stored=stored, origin=came)),
        ):
            made |= {(what, sheets.ENDINGS[one]): make(sheet).encode() for one, make in sheets.FORMATS.items()}
        said = []
        for (what, ending), content in made.items():
            name = sheets.file_name(f"{what}-{title}.{ending}")
            write_bytes(folder / name, content)
            said.append(f'<a href="{FILES}/{name}" download>{escape(what)}, {ending.upper()}</a>')
        links[section] = f'<p class="take">Take away: {" ".join(said)}</p>'
    return links


def _inside(library: Library, found: Sequence[Section], system: str) -> str:
    placed = Plots()
    parts = ["<h1>Inside a run</h1>"]
    for section, title in titles(found).items():
        case, setup = section
        rows = with_setup(library.table[library.table["case"] == case], setup)
        parts.append(f"<section><h2>{escape(title)}</h2>{_inside_of(library, rows, system, placed)}</section>")
    return placed.embedded("\n".join(parts))


def _inside_of(library: Library, rows: pd.DataFrame, system: str, placed: Plots) -> str:
    """Runs of one size and seed beside each other: parity, and the structures that they predict worst."""
    n_high, seed, runs = _stored_beside(library, rows)
    if not runs:
        return '<p class="soft">No run of this case has its predictions at hand.</p>'
    level = next(iter(runs.values())).levels[-1]
    parts = [
        f"<p>{n_high:,} high-level structures, seed {seed}; judged on {PART_LABELS['test']}, at "
        f"{escape(level_label(level))}.</p>",
        legend_html([name.partition(" (")[0] for name in runs]),
    ]
    panels, cut = [], False
    for quantity in ("energy_relative", "force"):
        values = pairs(runs, level, "test", quantity, system)
        if values.empty:
            continue
        if len(values) > MOST_POINTS:
            values = values.iloc[np.sort(np.random.default_rng(0).permutation(len(values))[:MOST_POINTS])]
            cut = True
        panels.append(f"<div>{placed.place(parity(values, quantity, system, level_label(level)))}</div>")
    parts.append(f'<div class="plots">{"".join(panels)}</div>')
    parts += (
        [f'<p class="soft">Of more than {MOST_POINTS:,} values so many are shown, drawn at random.</p>'] if cut else []
    )
    first = "SF-E" if "SF-E" in runs else next(iter(runs))
    return "\n".join([*parts, _worst_html(runs, level, first, system)])


def _stored_beside(library: Library, rows: pd.DataFrame) -> tuple[int, int, dict[str, Predictions]]:
    """The size and seed at which most runs have their predictions, and these by arm."""
    best: tuple[int, int, dict[str, Predictions]] = (0, 0, {})
    for n_high in sorted({int(n) for n in rows["n_high"] if n > 0}, reverse=True):
        for seed in sorted({int(one) for one in rows["seed"]}):
            found = {}
            for name, run in beside(rows, n_high, seed).items():
                try:
                    predictions = library.predictions(run)
                except UserError:  # the page of runs tells what is wrong with it
                    continue
                if predictions is not None:
                    found[name] = predictions
            if len(found) > len(best[2]):
                best = n_high, seed, found
    return best


def _worst_html(runs: Mapping[str, Predictions], level: str, first: str, system: str) -> str:
    """The structures that one run predicts worst, with drawings of some."""
    table = worst(runs, level, "test", first, system)
    kinds = {kind: pretty_unit(QUANTITIES[kind].shown[system]) for kind in ("energy", "force")}
    columns = {f"{name} {kind}": f"{name} {kind} ({unit})" for name in runs for kind, unit in kinds.items()}
    lines = [
        [str(row["molecule"]), f"{row['structure']:,}", *(number(float(row[name])) for name in columns)]
        for row in table.head(10).to_dict("records")
    ]
    drawn = []
    for structure in table.loc[table["shown"], "structure"].head(PICTURES):
        scene = structure_scene(runs, int(structure), level, system)
        place = place_text(next(iter(runs.values())), int(structure))
        drawn.append(f"<figure><figcaption>{escape(place)}</figcaption>{picture(scene)}</figure>")
    return (
        f"<h3>Worst first, of {escape(first)}</h3><p>Errors of energies, and root mean squares of those of force "
        f"components.</p>{_table(['Molecule', 'Structure', *columns.values()], lines)}"
        f'<div class="scroll">{"".join(drawn)}</div>'
    )


def _data() -> str:
    lines = []
    for name in manifest_names():
        declared = manifest(name)
        count = "not known beforehand" if declared.n_structures is None else f"{declared.n_structures:,}"
        labelled = ", ".join(dict.fromkeys(level_label(one.level) for one in declared.labels))
        cited = declared.citation.text + (f", doi:{declared.citation.doi}" if declared.citation.doi else "")
        lines.append([name, declared.title, labelled, count, declared.license, cited])
    heads = ["Dataset", "What it is", "Levels", "Structures", "Licence", "Citation"]
    costs = [
        [str(row["label"]), *(_seconds(row[name]) for name in ("energy, core-seconds", "with forces, core-seconds"))]
        for _, row in levels().iterrows()
    ]
    costs = [line for line in costs if line[1] or line[2]]
    return (
        f"<h1>Data</h1>{_table(heads, lines, (0, 1, 2, 4, 5), 'wide')}<h2>What a label costs</h2>"
        "<p>Core-seconds of quantum chemistry, means over the molecules of the mini data.</p>"
        f"{_table(['Level of theory', 'An energy', 'With its forces'], costs)}"
    )


def _seconds(value: Any) -> str:
    return "" if pd.isna(value) else number(float(value))


_RUNS = {"case": "Case", "data": "Data", "arm": "Arm", "backbone": "Network", "preset": "Preset", "state": "State"} | {
    "n_high": "n_high",
    "n_low": "n_low",
    "seed": "Seed",
    "steps": "Steps",
    "seconds": "Seconds",
    "device": "Device",
    "commit": "Commit",
    "run": "Run",
}


def _runs(library: Library) -> str:
    """Every run, in whatever state."""
    lines = [[_cell(row[name]) for name in _RUNS] for row in library.entries.to_dict("records")]
    words = [k for k, name in enumerate(_RUNS) if name not in ("n_high", "n_low", "seed", "steps", "seconds")]
    return f"<h1>Runs</h1><p>{len(lines):,} runs.</p>{_table(list(_RUNS.values()), lines, words)}"


def _cell(value: Any) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)
