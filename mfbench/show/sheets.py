"""Tables to take away: numbers in full for programs, and as people read them for papers, with a caption."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mfbench.errors import UserError
from mfbench.results.paired import Stored, nothing_stored
from mfbench.results.rows import SETUP, judged_at_high_level, setups_of
from mfbench.results.schema import QUANTITIES, physical
from mfbench.results.schema import errors as errors_of
from mfbench.show.tables import (
    GAP_QUANTITIES,
    columns_of,
    error_table,
    gap_table,
    physical_table,
    spread_lines,
    spread_table,
)
from mfbench.show.words import (
    GAP_CONVENTION,
    METRIC_LABELS,
    PART_LABELS,
    SPREAD,
    _physical_heads,
    column_texts,
    counts,
    gap_text,
    level_label,
    n_low_text,
    number,
    pretty_unit,
    seeds_text,
)


@dataclass(frozen=True)
class Numbers:
    """Numbers in full, and what they are: a table's, or those behind a figure."""

    name: str  # of a file
    caption: str
    table: pd.DataFrame  # units stand in the heads, or in a column ``unit``
    runs: tuple[str, ...]  # names of the runs that they are of
    origin: Mapping[str, str] = field(default_factory=dict)  # see ``results.origin``


@dataclass(frozen=True)
class Head:
    """The head of a column that people read."""

    label: str
    unit: str = ""
    left: bool = False  # aligned left: words, not numbers

    @property
    def text(self) -> str:
        """``Energy MAE (kcal/mol)``."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Sheet:
    """A table to take away: its numbers, and the texts that people read in their place."""

    numbers: Numbers
    heads: tuple[Head, ...]
    lines: tuple[tuple[str, ...], ...]  # a text for each head


def file_name(name: str) -> str:
    """A name as one of a file on any system, whatever it was made of."""
    return re.sub(r"[^A-Za-z0-9+._-]+", "-", name).strip("-.")


# Formats


def as_csv(numbers: Numbers) -> str:
    """The numbers in full, a head line first."""
    return numbers.table.to_csv(index=False, lineterminator="\n")


def as_markdown(sheet: Sheet) -> str:
    """A table as GitHub and Pandoc read it, its caption below."""
    rules = ["---" if head.left else "--:" for head in sheet.heads]
    rows = [
        [_markdown(head.text) for head in sheet.heads],
        rules,
        *([_markdown(t) for t in one] for one in sheet.lines),
    ]
    return "\n".join(
        [*(f"| {' | '.join(row)} |" for row in rows), "", f"Table: {_markdown(sheet.numbers.caption)}", ""]
    )


def as_latex(sheet: Sheet) -> str:
    """A ``table`` for LaTeX, with the rules of the package booktabs; units stand below the heads."""
    columns = "".join("l" if head.left else "r" for head in sheet.heads)
    heads = [[head.label for head in sheet.heads], [f"({head.unit})" if head.unit else "" for head in sheet.heads]]
    rows = [" & ".join(map(_latex, line)) + r" \\" for line in [*heads, *sheet.lines]]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            rf"\caption{{{_latex(sheet.numbers.caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *rows[:2],
            r"\midrule",
            *rows[2:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


FORMATS: dict[str, Callable[[Sheet], str]] = {
    "csv": lambda sheet: as_csv(sheet.numbers),
    "md": as_markdown,
    "latex": as_latex,
}

ENDINGS = {"csv": "csv", "md": "md", "latex": "tex"}  # of files in these formats

_LATEX = {
    **{one: f"\\{one}" for one in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "Å": r"\AA{}",
    "–": "--",
    "’": "'",
    "−": "$-$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "ω": r"$\omega$",
    "±": r"$\pm$",
}


_SIZES = {"n_high": r"$n_\mathrm{high}$", "n_low": r"$n_\mathrm{low}$"}


def _latex(text: str) -> str:
    return _SIZES.get(text) or "".join(_LATEX.get(one, one) for one in text)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_<>|~])", r"\\\1", text)


# What numbers are


def numbers_of(
    kind: str, what: str, rows: pd.DataFrame, table: pd.DataFrame, origin: Mapping[str, str] | None
) -> Numbers:
    """Numbers with a caption: what they are, of what, over which seeds and how many values, and by which commit.

    Args:
        kind: how the file's name begins.
        what: the caption's first sentence.
        rows: of the results table, of one case and part, that the numbers were made of.
        table: the numbers; the columns of what they are of are put before them.
    """
    (case, *_), (part, *_) = (list(dict.fromkeys(rows[name])) for name in ("case", "part"))
    levels = ", ".join(level_label(name) for name in dict.fromkeys(rows["level"]))
    said = [what, f"Case {case}, at {levels}, {PART_LABELS[part]}"]
    for data, backbone, preset in setups_of(rows):
        said.append(f"Data {data}, network {backbone}, preset {preset}; {n_low_text(rows)}; {seeds_text(rows)}")
    rows = errors_of(rows)
    forces = rows["quantity"] == "force"
    kinds = {"energies": ~forces & (rows["n"] > 0), "force components": forces & (rows["n"] > 0)}
    if n := [f"{counts(rows.loc[of, 'n'])} {name}" for name, of in kinds.items() if of.any()]:
        said.append(f"Means are over {' and '.join(n)}")
    if origin and origin.get("commit"):
        said.append(f"Commit {origin['commit']}")
    place = {"case": case, **dict(zip(SETUP, setups_of(rows)[0])), "part": part}
    table = table.drop(columns=[name for name in place if name in table])
    table = pd.concat([pd.DataFrame(place, table.index), table], axis=1)
    caption = ". ".join(one.rstrip(".") for one in said) + "."
    return Numbers(f"{kind}-{case}-{part}", caption, table, tuple(sorted(set(rows["run"]))), origin or {})


# Tables


def errors(
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    system: str = "kcal/mol",
    origin: Mapping[str, str] | None = None,
) -> Sheet:
    """Errors at the high level, all metrics: geometric means over seeds, a row for each size and arm.

    Args:
        table: a results table with one (data, backbone, preset) in the case's rows.
        case: its name in the table.
        part: ``test`` or ``unseen``.
        system: unit system shown, ``kcal/mol`` or ``meV``.
        origin: where the results came from (``results.origin``); the caption tells the commit.

    Raises:
        UserError: no such case or unit system, or nothing to show.
    """
    found, columns = error_table(table, case, part, system), columns_of(table)
    rows = _rows(table, case, part)
    texts = [column_texts(found[c.key]) for c in columns]
    full = found.rename(columns={c.key: f"{c.quantity} {c.metric} ({c.unit(system)})" for c in columns})
    full = full.assign(**{name: full[name].str.replace(",", "") for name in ("n energies", "n forces")})
    return Sheet(
        numbers_of("errors", "Errors", rows, full, origin),
        heads=(
            *_SIZE,
            Head("n_low"),
            *(Head(f"{c.head} {c.label}", c.unit(system)) for c in columns),
            *(Head("n energies"), Head("n forces"), Head("Seeds", left=True)),
        ),
        lines=_lines(
            _integers(found["n_high"]),
            found["arm"],
            _integers(found["n_low"]),
            *texts,
            *(found[name] for name in ("n energies", "n forces", "seeds")),
        ),
    )


def spread(
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    metric: str = "mae",
    system: str = "kcal/mol",
    stored: Stored = nothing_stored,
    origin: Mapping[str, str] | None = None,
) -> Sheet:
    """Errors over several seeds, with their interval or range; arguments as for ``errors``.

    Args:
        metric: ``mae`` or ``rmse``.
        stored: what runs predicted, so that intervals are over test structures, too (``results.summary``).
    """
    found, rows = spread_table(table, case, part, system, metric, stored), _rows(table, case, part)
    units = [pretty_unit(QUANTITIES[name].shown[system]) for name in GAP_QUANTITIES]
    return Sheet(
        numbers_of("spread", f"{METRIC_LABELS[metric]}. {SPREAD}", rows, with_units(found, system)[[*_SPREAD]], origin),
        heads=(
            *_SIZE,
            *(Head(QUANTITIES[name].label, unit) for name, unit in zip(GAP_QUANTITIES, units)),
            Head("Seeds"),
        ),
        lines=tuple(map(tuple, spread_lines(found))),
    )


def gap(
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    metric: str = "mae",
    system: str = "kcal/mol",
    stored: Stored = nothing_stored,
    origin: Mapping[str, str] | None = None,
) -> Sheet:
    """The gap closed by each arm, beside the errors that it is made of; arguments as for ``spread``."""
    found, rows = gap_table(table, case, part, system, metric, stored), _rows(table, case, part)
    found = with_units(found, system)
    values = [
        [number(value) if np.isfinite(value) else "n = 0" for value in found[column]]
        for column in ("SF-E", "error", "SF-EF")
    ]
    return Sheet(
        numbers_of("gap", f"{METRIC_LABELS[metric]}. {GAP_CONVENTION}", rows, found, origin),
        heads=(
            Head("n_high"),
            *(Head(label, left=True) for label in (f"{METRIC_LABELS[metric]} of", "Unit", "Arm")),
            *(Head("SF-E"), Head("arm’s"), Head("SF-EF"), Head("arm / SF-E"), Head("Gap closed"), Head("Seeds")),
        ),
        lines=_lines(
            _integers(found["n_high"]),
            *([QUANTITIES[name].label for name in found["quantity"]], found["unit"], found["arm"]),
            *(*values, [f"{ratio:.2f}" for ratio in found["ratio"]]),
            *([gap_text(row) for _, row in found.iterrows()], _integers(found["pairs"])),
        ),
    )


def checks(table: pd.DataFrame, case: str, origin: Mapping[str, str] | None = None) -> Sheet:
    """Physical checks of a case's runs: medians over seeds; arguments as for ``errors``."""
    rows = physical(table[table["case"] == case])
    if rows.empty:
        raise UserError(f"physical checks of {case}: expected some, found none; `mfbench check RUN` makes them")
    found = physical_table(table, case, setups_of(rows)[0])
    measured = _physical_heads(found)
    full = found.rename(columns={column: f"{label} ({unit})" if unit else label for column, label, unit in measured})
    return Sheet(
        numbers_of("checks", "Physical checks, medians over seeds", rows, full, origin),
        heads=(
            *_SIZE,
            *(Head("n_low"), Head("Level", left=True)),
            *(Head(label, unit) for _, label, unit in measured),
            Head("Seeds", left=True),
        ),
        lines=_lines(
            *(_integers(found["n_high"]), found["arm"], _integers(found["n_low"]), map(level_label, found["level"])),
            *(column_texts(found[column], "–") for column, _, _ in measured),
            found["seeds"],
        ),
    )


TABLES: dict[str, Callable[..., Sheet]] = {"errors": errors, "spread": spread, "gap": gap, "checks": checks}

_SIZE = (Head("n_high"), Head("Arm", left=True))

_SPREAD = ("n_high", "arm", "n_low", "quantity", "unit", "value", "low", "high", "least", "most", "seeds", "groups")


def _rows(table: pd.DataFrame, case: str, part: str) -> pd.DataFrame:
    """The rows that errors of a case are; raises UserError where there are none."""
    rows = judged_at_high_level(table, case, part)
    if rows.empty:
        raise UserError(f"{case}: expected errors for {PART_LABELS[part]}, found none")
    return rows


def with_units(found: pd.DataFrame, system: str) -> pd.DataFrame:
    """A table with a quantity a row, and the unit of its errors beside it."""
    units = [pretty_unit(QUANTITIES[name].shown[system]) for name in found["quantity"]]
    before = list(found.columns).index("quantity") + 1
    columns = [*found.columns[:before], "unit", *found.columns[before:]]
    return found.assign(unit=pd.Series(units, found.index, dtype=str))[columns]


def _integers(values: Iterable[int]) -> list[str]:
    return [f"{int(value):,}" for value in values]


def _lines(*columns: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Columns of texts as lines."""
    return tuple(zip(*columns, strict=True))
