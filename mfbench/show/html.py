"""The results as pieces of HTML: cards, tables of errors, spreads, gaps and physical checks."""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
import pandas as pd

from mfbench.results.evidence import Evidence
from mfbench.results.rows import HORIZONTAL, base_arm
from mfbench.results.schema import QUANTITIES
from mfbench.show.claims import FEWER_LABELS, best_lines
from mfbench.show.styles import arm_order, arm_style, curve_style
from mfbench.show.tables import GAP_QUANTITIES, columns_of, error_table, fewer_lines, gap_rows, remarks, spread_lines
from mfbench.show.words import (
    METRIC_LABELS,
    PART_LABELS,
    SPREAD,
    _physical_heads,
    column_texts,
    gap_text,
    level_label,
    levels_label,
    number,
    pretty_unit,
)

# HTML, shared by the report and the dashboard

# Colours are the page's theme's, light or dark, where it has one; texts follow the size that the page gives.
STYLE = """
.mfb{--ink:var(--mui-palette-text-primary,#1f2933);--soft:var(--mui-palette-text-secondary,#52606d);
  --line:var(--mui-palette-divider,#dde3e9);--wash:var(--mui-palette-action-hover,#f6f8fa);
  --paper:var(--mui-palette-background-paper,#fff);color:var(--ink);
  font:var(--mfb-text,16px)/1.55 Roboto,"Helvetica Neue",Helvetica,Arial,"Liberation Sans",sans-serif}
.mfb *{box-sizing:border-box}
.mfb h1,.mfb h2,.mfb h3{color:inherit;font-family:inherit;line-height:1.25;margin:.9em 0 .35em}
.mfb h1{font-size:1.5em}.mfb h2{font-size:1.25em}.mfb h3{font-size:1.06em}
.mfb p{max-width:76ch;margin:.5em 0}
.mfb .soft{color:var(--soft)}
.mfb code{color:inherit;background:var(--wash);padding:.1em .35em;border-radius:4px;font-size:.94em}
.mfb .scroll{overflow-x:auto;margin:.7em 0}
.mfb table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.94em;line-height:1.35;
  white-space:nowrap}
.mfb th,.mfb td{padding:.32em .75em;text-align:right}
.mfb th{font-weight:600;vertical-align:bottom}
.mfb thead th .unit{display:block;font-weight:400;color:var(--soft);font-size:.94em}
.mfb thead tr:last-child th{border-bottom:2px solid var(--ink)}
.mfb thead th.group{border-bottom:1px solid var(--line);text-align:center}
.mfb .left{text-align:left}
.mfb td.zero{color:var(--soft)}
.mfb tbody.block tr:first-child>*{border-top:1px solid var(--line)}
.mfb tbody.block:first-of-type tr:first-child>*{border-top:0}
.mfb tbody tr:hover td{background:var(--wash)}
.mfb .arm{font-weight:600;white-space:nowrap}
.mfb .arm svg{vertical-align:-1px;margin-right:.45em}
.mfb .arms,.mfb .key{display:flex;flex-wrap:wrap;gap:4px 26px;margin:.6em 0;padding:0;list-style:none}
.mfb .beside{display:flex;flex-wrap:wrap;gap:0 40px}.mfb .beside>div{min-width:0;max-width:100%}
.mfb ul.notes{margin:.2em 0 .8em;padding-left:1.2em;color:var(--soft);font-size:.94em}
.mfb .cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(270px,1fr));gap:14px;margin:1em 0}
.mfb .card{max-width:460px;border:1px solid var(--line);border-radius:8px;padding:14px 18px;background:var(--paper)}
.mfb .card h3{margin:0}
.mfb .card .pair{display:grid;grid-template-columns:1fr 1fr;gap:10px;margin-top:8px}
.mfb .card .big{font-size:1.9em;line-height:1.2;font-weight:650}
.mfb .card small{display:block;color:var(--soft);font-size:.9em;line-height:1.35}
.mfb details.why{display:inline-block;position:relative;margin-left:.3em;font-weight:400}
.mfb details.why>summary{list-style:none;cursor:pointer;width:1.45em;height:1.45em;line-height:1.4em;text-align:center;
  border:1px solid var(--line);border-radius:50%;color:var(--soft);font-size:.9em}
.mfb details.why>summary::-webkit-details-marker{display:none}
.mfb details.why>summary:hover,.mfb details.why[open]>summary{color:var(--ink);border-color:var(--ink)}
.mfb details.why>div{position:absolute;z-index:20;left:0;top:1.8em;width:min(44ch,80vw);white-space:normal;
  text-align:left;background:var(--paper);color:var(--ink);border:1px solid var(--line);border-radius:8px;
  padding:.6em .9em;box-shadow:0 4px 18px rgb(0 0 0/18%);font-size:.94em;line-height:1.45}
.mfb dl.glossary dt{font-weight:650;margin-top:.7em}
.mfb dl.glossary dd{margin:0;max-width:76ch}
.mfb dl.claims{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.1em .9em;margin:0 0 .4em;
  font-size:.94em;line-height:1.4}
.mfb h3:has(+dl.claims){margin:.2em 0 .15em}
.mfb dl.claims dt{color:var(--soft)}.mfb dl.claims dd{margin:0}
.mfb summary{cursor:pointer}
.mfb table.long td{white-space:normal;min-width:9em;vertical-align:top;overflow-wrap:anywhere}
.mfb table.long td:first-child{min-width:6em}
.mfb table.tight :is(th,td){padding:.32em .5em}
.mfb .swatch{display:inline-flex;align-items:center;gap:.45em;margin-right:1.2em}
.mfb .swatch i{width:14px;height:14px;border-radius:3px}
.mfb .copy{display:flex;gap:8px;align-items:start;max-width:100%}
.mfb .copy pre{margin:0;padding:.5em .8em;background:var(--wash);border-radius:6px;overflow-x:auto;font-size:.94em;
  line-height:1.4;min-width:0}
.mfb .copy button{font:inherit;font-size:.94em;color:inherit;background:none;border:1px solid var(--line);
  border-radius:6px;padding:.3em .8em;cursor:pointer}
.mfb .copy button:hover{background:var(--wash)}
.mfb a{color:inherit}
.mfb .badge{border:1px solid currentcolor;border-radius:1em;padding:0 .6em;font-size:.88em;white-space:nowrap}
"""


def styled(*parts: str) -> str:
    """Pieces of HTML with the style they need, for a notebook's ``HTML``."""
    return f'<div class="mfb"><style>{STYLE}</style>{"".join(parts)}</div>'


_SHAPES = {
    "circle": '<circle cx="7" cy="7" r="5.5"/>',
    "square": '<rect x="2" y="2" width="10" height="10"/>',
    "triangle": '<path d="M7 1.5 13 12H1z"/>',
    "inverted_triangle": '<path d="M7 12.5 13 2H1z"/>',
    "hex": '<path d="M7 1l5.2 3v6L7 13 1.8 10V4z"/>',
    "star": '<path d="M7 .5l2 4.3 4.7.6-3.4 3.2.9 4.7L7 11l-4.2 2.3.9-4.7L.3 5.4 5 4.8z"/>',
    "plus": '<path d="M5.5 1h3v4.5H13v3H8.5V13h-3V8.5H1v-3h4.5z"/>',
    "square_pin": '<path d="M1 1q6 3 12 0-3 6 0 12-6-3-12 0 3-6 0-12z"/>',
    "diamond": '<path d="M7 .5 13.5 7 7 13.5.5 7z"/>',
}


def arm_html(arm: str) -> str:
    """The arm's name beside its marker."""
    style = arm_style(arm)
    shape = _SHAPES[style.marker]
    if base_arm(arm) in HORIZONTAL:  # a dashed line in the plots
        shape = '<path d="M0 5.8h5.6v2.6H0zM8.4 5.8H14v2.6H8.4z"/>'
    icon = f'<svg width="14" height="14" fill="{style.color}" aria-hidden="true">{shape}</svg>'
    return f'<span class="arm">{icon}{escape(arm)}</span>'


# Where a page has no clipboard (it is no secure context), the text is selected and copied as people do it.
_COPY = (
    "const text=this.previousElementSibling,said=()=>{this.textContent='Copied'};"
    "getSelection().selectAllChildren(text);"
    "navigator.clipboard?navigator.clipboard.writeText(text.textContent).then(said):"
    "document.execCommand('copy')&&said()"
)


def copyable(text: str) -> str:
    """A text to paste elsewhere, a command or a citation, with a button that copies it."""
    return f'<div class="copy"><pre>{escape(text)}</pre><button type="button" onclick="{_COPY}">Copy</button></div>'


def legend_html(arms: Iterable[str], rests: Sequence[str] = ("",)) -> str:
    """A legend for several plots: the arms, and what else tells their curves apart (``Curves.points``'s rest)."""
    items = "".join(f"<li>{arm_html(arm)}</li>" for arm in arm_order(arms))
    return f'<ul class="arms">{items}</ul>{key_html(rests)}'


def key_html(rests: Sequence[str]) -> str:
    """What dashes of lines and hollow markers stand for; empty where arms alone differ."""
    if len(rests) < 2:
        return ""
    samples = []
    for k, rest in enumerate(rests):
        dash, filled = curve_style(k)
        line = f'<path d="M0 7H34" stroke="currentColor" stroke-width="2.5" stroke-dasharray="{_STROKES[dash]}"/>'
        fill = "currentColor" if filled else "none"
        marker = f'<circle cx="17" cy="7" r="4.5" fill="{fill}" stroke="currentColor" stroke-width="2"/>'
        icon = f'<svg width="34" height="14" aria-hidden="true">{line}{marker}</svg>'
        samples.append(f'<span class="arm">{icon}{escape(rest)}</span>')
    return f'<div class="key">{" ".join(samples)}</div>'


_STROKES = {"solid": "none", "dashed": "6 4", "dotted": "2 4", "dotdash": "2 4 6 4"}


def errors_html(table: pd.DataFrame, case: str, part: str = "test", system: str = "kcal/mol") -> str:
    """The table of errors of one case and part (one setup: data, backbone and preset), with its remarks."""
    found, columns = error_table(table, case, part, system), columns_of(table)
    if found.empty:
        return f'<p class="soft">{escape(case)} has no part of {PART_LABELS[part]}.</p>'
    heads = dict.fromkeys((c.head, c.unit(system)) for c in columns)
    columns = tuple(sorted(columns, key=lambda c: list(heads).index((c.head, c.unit(system)))))
    groups = "".join(
        f'<th class="group" colspan="{sum((c.head, c.unit(system)) == head for c in columns)}">'
        f'{head[0]}<span class="unit">{escape(head[1])}</span></th>'
        for head in heads
    )
    names = "".join(f"<th>{escape(c.label)}</th>" for c in columns)
    sizes = '<th>n<sub>high</sub></th><th class="left">Arm</th><th>n<sub>low</sub></th>'
    counted = '<th class="group" colspan="2">n averaged over</th>'
    head = (
        f'<thead><tr><th colspan="3"></th>{groups}{counted}<th></th></tr>'
        f"<tr>{sizes}{names}<th>energies</th><th>forces</th><th>Seeds</th></tr></thead>"
    )
    texts = [[f"{n:,}" for n in found["n_low"]], *(column_texts(found[c.key]) for c in columns)]
    counts = (found[name] for name in ("n energies", "n forces", "seeds"))
    return _rows_html(head, found, zip(*texts, *counts)) + notes_html(remarks(table, case, part))


def spread_html(spread: pd.DataFrame, system: str = "kcal/mol", metric: str = "mae") -> str:
    """A ``spread_table`` as HTML; empty text where it has no rows."""
    lines = spread_lines(spread)
    if not lines:
        return ""
    heads = "".join(
        f'<th class="group">{QUANTITIES[name].label}'
        f'<span class="unit">{pretty_unit(QUANTITIES[name].shown[system])}</span></th>'
        for name in GAP_QUANTITIES
    )
    head = f'<thead><tr><th>n<sub>high</sub></th><th class="left">Arm</th>{heads}<th>Seeds</th></tr></thead>'
    return f"<h4>{METRIC_LABELS[metric]}. {SPREAD}.</h4>{blocks_html(head, lines)}"


def _rows_html(head: str, rows: pd.DataFrame, texts: Iterable[Sequence[str]]) -> str:
    """A table with a row an arm: size, arm, and the texts of its other cells."""
    return blocks_html(head, [(f"{n:,}", arm, *each) for n, arm, each in zip(rows["n_high"], rows["arm"], texts)])


def blocks_html(head: str, lines: Iterable[Sequence[str]]) -> str:
    """A table of lines (size, arm, texts), those of one size in a block."""
    blocks: dict[str, list[str]] = {}
    for size, arm, *texts in lines:
        cells = "".join(map(_cell, texts))
        blocks.setdefault(size, []).append(f'<tr><td>{size}</td><td class="left">{arm_html(arm)}</td>{cells}</tr>')
    bodies = "".join(f'<tbody class="block">{"".join(rows)}</tbody>' for rows in blocks.values())
    return f'<div class="scroll"><table>{head}{bodies}</table></div>'


def _cell(text: str) -> str:
    return f'<td class="zero">{text}</td>' if text == "n = 0" else f"<td>{text}</td>"


def notes_html(lines: Sequence[str]) -> str:
    """Lines below a table or a plot; empty text where there is none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if items else ""


def gaps_html(rows: Sequence[tuple[str, pd.DataFrame]], system: str = "kcal/mol", metric: str = "mae") -> str:
    """One table of gap closed over several (title, ``gap_table``); empty text where there is nothing."""
    bodies = []
    for title, gaps in rows:
        lines = []
        for _, row in gaps.iterrows():
            quantity = QUANTITIES[row["quantity"]]
            errors = "".join(
                _cell(number(row[c]) if np.isfinite(row[c]) else "n = 0") for c in ("SF-E", "error", "SF-EF")
            )
            gap = gap_text(row)
            shade = ' class="zero"' if gap.startswith("no") else ""
            lines.append(
                f'<tr><td class="left">{escape(title)}</td><td>{row["n_high"]:,}</td>'
                f'<td class="left">{quantity.label}</td>'
                f'<td class="left soft">{pretty_unit(quantity.shown[system])}</td>'
                f'<td class="left">{arm_html(row["arm"])}</td>'
                f"{errors}<td>{row['ratio']:.2f}</td><td{shade}>{gap}</td><td>{row['pairs']}</td></tr>"
            )
        if lines:
            bodies.append(f'<tbody class="block">{"".join(lines)}</tbody>')
    if not bodies:
        return ""
    head = (
        '<thead><tr><th class="left">Case</th><th>n<sub>high</sub></th>'
        f'<th class="left">{METRIC_LABELS[metric]} of</th>'
        '<th class="left">Unit</th><th class="left">Arm</th><th>SF-E</th><th>arm’s</th><th>SF-EF</th>'
        "<th>arm / SF-E</th><th>Gap closed</th><th>Seeds</th></tr></thead>"
    )
    return f'<div class="scroll"><table>{head}{"".join(bodies)}</table></div>'


def physical_html(checks: pd.DataFrame) -> str:
    """A ``physical_table`` as HTML; empty text where it has no rows."""
    if checks.empty:
        return ""
    heads = _physical_heads(checks)
    names = "".join(f'<th>{escape(label)}<span class="unit">{escape(unit)}</span></th>' for _, label, unit in heads)
    numbers = zip(*(column_texts(checks[column], "–") for column, _, _ in heads))
    lines = "".join(
        f'<tr><td>{line["n_high"]:,}</td><td class="left">{arm_html(line["arm"])}</td><td>{line["n_low"]:,}</td>'
        f'<td class="left">{escape(level_label(line["level"]))}</td>{"".join(map(_cell, texts))}'
        f"<td>{line['seeds']}</td></tr>"
        for line, texts in zip(checks.to_dict("records"), numbers)
    )
    head = (
        '<thead><tr><th>n<sub>high</sub></th><th class="left">Arm</th><th>n<sub>low</sub></th>'
        f'<th class="left">Level</th>{names}<th>Seeds</th></tr></thead>'
    )
    # Long names may break here: there are eight of them.
    table = f'<table style="white-space:normal">{head}<tbody class="block">{lines}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def fewer_html(evidence: Evidence) -> str:
    """How many times as many labels SF-E needs, for the errors of the other arms; empty text where nothing is told."""
    lines = fewer_lines(evidence.fewer())
    if not lines:
        return ""
    heads = "".join(f"<th>{QUANTITIES[name].label}</th>" for name in GAP_QUANTITIES)
    head = f'<thead><tr><th>n<sub>high</sub></th><th class="left">Arm</th>{heads}<th>Seeds</th></tr></thead>'
    return f"<h4>{FEWER_LABELS}.</h4>{blocks_html(head, lines)}"


def best_html(evidence: Evidence) -> str:
    """The best arm of each size, in energies and forces, and which ones cannot be told from it."""
    return notes_html([f"{where}: {text}" for where, text in best_lines(evidence)])


def card_html(
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    metric: str = "mae",
    arm: str = "MF",
    own: Evidence | None = None,
) -> str:
    """A case at a glance: the arm's error over SF-E's, and the gap closed, at the smallest n_high.

    Args:
        own: the evidence of these rows, where it is at hand.
    """
    own = own or Evidence(table, case, part, metric)
    gaps = gap_rows(own.summary)
    gaps = gaps[gaps["arm"] == arm]
    gaps = gaps[gaps["n_high"] == gaps["n_high"].min()].set_index("quantity")
    cells = []
    for quantity, name in (("energy", "energy"), ("force", "force")):
        big, small = "–", f"{name}: not measured"
        if quantity in gaps.index:
            row = gaps.loc[quantity]
            gap = gap_text(row)
            closed = f"gap closed: {gap}" if gap.startswith("no") else f"gap closed {gap}"
            big, small = f"{row['ratio']:.2f} ×", f"SF-E’s {name} {METRIC_LABELS[metric]}<br>{closed}"
        cells.append(f'<div><span class="big">{big}</span><small>{small}</small></div>')
    size = f"n<sub>high</sub> = {gaps['n_high'].min():,}" if len(gaps) else ""
    what = f"{arm}’s error with {size}" if size else f"no {arm} and SF-E of one size and seed here"
    return (
        f'<div class="card"><h3>{escape(case)}</h3><small>{escape(levels_label(table, case))}</small>'
        f'<small>{what}</small><div class="pair">{"".join(cells)}</div></div>'
    )
