"""Datasets and cases as pieces of HTML: what is declared of them, what they hold, and what checks found."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd

from mfbench.costs import SOURCE, label_cost
from mfbench.data.cases import Case
from mfbench.data.catalogue import Entry, Info, size
from mfbench.data.findings import Finding
from mfbench.data.samples import Sample
from mfbench.elements import SYMBOLS
from mfbench.results.schema import QUANTITIES
from mfbench.show.datasets import state_text
from mfbench.show.glossary import CASES, why
from mfbench.show.html import copyable
from mfbench.show.labels import COLORS
from mfbench.show.words import level_label, number, pretty_unit

FEW = 30  # molecules that a table lists

_HERE = ("ships", "ships with its package", "ready", "downloaded")

NOT_DECLARED = "not known"


def pull_command(name: str) -> str:
    """What gets a dataset onto this machine."""
    return f"mfbench data pull {name}"


# What is declared


def cases_html(cases: Sequence[Case], chosen: str) -> str:
    """What is cheap and what is dear in each case, the chosen one first."""
    cards = []
    for one in sorted(cases, key=lambda one: one.name != chosen):
        levels = f"{level_label(one.low)} → {' or '.join(map(level_label, _highs(one)))}"
        words = CASES.get(one.name, f"Cheap: {level_label(one.low)}. Dear: {level_label(one.high)}.")
        cards.append(
            f'<div class="card"><h3>{escape(one.name)}: {escape(one.title)} {why(one.basis, one.name)}</h3>'
            f"<small>{escape(levels)}</small><p>{escape(words)}</p>{_costs(one)}"
            f"<small>Data: {escape(', '.join(one.data))}</small></div>"
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _costs(one: Case) -> str:
    low, high = label_cost(one.low, forces=True), label_cost(one.high, forces=False)
    if low is None or high is None:
        return ""
    how = f"Means over the molecules of the mini data, which are small: {SOURCE}. Larger ones part the levels further."
    return (
        f"<div>A label: <b>{number(low)}</b> core-seconds at the low level, with forces; <b>{number(high)}</b> at the "
        f"high one, the energy alone. {why(how, 'the cost of a label')}</div>"
    )


def _highs(one: Case) -> list[str]:
    return list(dict.fromkeys(one.high_of(data) for data in one.data))


def head_html(title: str, infos: Sequence[Info], sample: Sample | None) -> str:
    """What data are in a line or two, and the command that gets what is not here."""
    lines = []
    for info in infos:
        declared = info.declared
        here = info.state.where in _HERE
        weight = f", {size(declared.bytes)}" if declared.bytes else ""
        badge = f'<span class="badge">{escape(state_text(info.state))}{weight}</span>'
        lines.append(f"<p><b>{escape(declared.name)}</b>: {escape(declared.title)} {badge}</p>")
        if not here:
            lines.append(f"<p>Get it with</p>{copyable(pull_command(declared.name))}")
    return f"<h1>{escape(title)}</h1>{''.join(lines)}{'' if sample is None else f'<p>{_facts(sample)}</p>'}"


def _facts(sample: Sample) -> str:
    held = sample.structures
    elements = ", ".join(sorted(SYMBOLS[int(z)] for z in np.unique(held.numbers)))
    molecules = len(np.unique(held.molecule))
    some = "" if sample.whole else f"; {len(held):,} of them, spread over the file, are looked at here"
    facts = [
        f"<b>{sample.total:,}</b> structures",
        f"<b>{molecules:,}</b> molecule{'s' if molecules > 1 else ''}",
        f"<b>{_range(held.n_atoms)}</b> atoms",
        f"elements <b>{elements}</b>",
    ]
    if (known := held.temperature[held.temperature > 0]).size:
        facts.append(f"<b>{_range(known)}</b> K")
    return " · ".join(facts) + some


def _range(values: np.ndarray) -> str:
    low, high = values.min(), values.max()
    return f"{low:,.0f}" if low == high else f"{low:,.0f}–{high:,.0f}"


def labels_html(infos: Sequence[Info], found: pd.DataFrame | None, system: str = "kcal/mol") -> str:
    """Levels x labels: how many structures have each, how large forces are, and what a label costs.

    Args:
        found: of ``contents.by_level``, where the data are here.
    """
    quantity = QUANTITIES["force"]
    unit, factor = pretty_unit(quantity.shown[system]), quantity.factor(system)
    seen = {} if found is None else {row["level"]: row for row in found.to_dict("records")}
    several, rows = len(infos) > 1, []
    for info in infos:
        for name in info.declared.levels:
            labels = next(one for one in info.declared.labels if one.level == name)
            row = seen.get(name, {})
            cells = [
                _counted(labels.n_energy if labels.energy else 0),
                _counted(labels.n_forces if labels.forces else 0),
                *(_number(row.get(key), factor) for key in ("force", "largest")),
                *(_number(row.get(key)) for key in ("energy cost", "forces cost")),
            ]
            origin = f'<td class="left">{escape(info.declared.name)}</td>' if several else ""
            rows.append(
                f'<tr><td class="left">{escape(level_label(name))}</td>{origin}'
                f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
            )
    costs = why(f"Mean over the structures looked at, in {SOURCE}.", "the cost of a label")
    counts = why(
        "Structures that have an energy, or forces on all atoms, as the manifest declares it; checks compare it with "
        "the files.",
        "the number of labels",
    )
    sizes = why("Root mean square, and largest, of all Cartesian components of the structures looked at.", "the size")
    head = (
        f'<thead><tr><th></th>{"<th></th>" if several else ""}<th class="group" colspan="2">Labels {counts}</th>'
        f'<th class="group" colspan="2">Force components {sizes}<span class="unit">{escape(unit)}</span></th>'
        f'<th class="group" colspan="2">Cost {costs}<span class="unit">core-seconds</span></th></tr>'
        f'<tr><th class="left">Level of theory</th>{"<th class=left>Dataset</th>" if several else ""}'
        "<th>energies</th><th>forces</th><th>RMS</th><th>largest</th><th>energy</th><th>with forces</th></tr></thead>"
    )
    return f'<div class="scroll wide"><table>{head}<tbody class="block">{"".join(rows)}</tbody></table></div>'


def _counted(n: int | None) -> str:
    return NOT_DECLARED if n is None else f"{n:,}" if n else "–"


def _number(value: float | None, factor: float = 1.0) -> str:
    return "–" if value is None else number(value * factor)


def declared_html(info: Info) -> str:
    """Licence, citation, files with their hashes, and notes."""
    declared = info.declared
    cite = escape(declared.citation.text) + _doi(declared.citation.doi)
    data = f"; data:{_doi(declared.doi)}" if declared.doi else ""
    parts = [
        f"<h3>{escape(declared.name)}</h3><p><b>Licence</b>: {escape(declared.license)}. <b>Cite</b>: {cite}{data}</p>"
    ]
    if declared.citation.bibtex:
        parts.append(copyable(declared.citation.bibtex.rstrip()))
    if declared.notes:
        parts.append(f"<p>{escape(declared.notes)}</p>")
    if declared.max_train:
        parts.append(f"<p>Its authors: train on at most {declared.max_train:,} structures.</p>")
    rows = []
    for held in info.files:
        file = held.declared
        hashed = f"sha256 {file.sha256}" if file.sha256 else "none published for the whole"
        inside = f"{len(file.members)} files inside" if file.members else ""
        rows.append(
            f'<tr><td class="left">{escape(file.name)}</td><td>{size(file.bytes) if file.bytes else NOT_DECLARED}</td>'
            f'<td class="left"><code>{escape(hashed)}</code></td><td class="left">{inside}</td>'
            f'<td class="left">{"here" if held.path else "not here"}</td></tr>'
        )
    head = '<tr><th class="left">File</th><th>Size</th><th class="left">Hash</th><th></th><th></th></tr>'
    table = f'<div class="scroll wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    return "".join([*parts, table])


def _doi(doi: str | None) -> str:
    return f' <a href="https://doi.org/{escape(doi)}" target="_blank" rel="noopener">{escape(doi)}</a>' if doi else ""


def datasets_html(entries: Sequence[Entry], first: Sequence[str]) -> str:
    """All datasets, those named first; and how what is not here is got."""
    rows = []
    for one in sorted(entries, key=lambda one: (one.name not in first, one.state.where not in _HERE)):
        here = one.state.where in _HERE
        command = "" if here else f"<code>{escape(pull_command(one.name))}</code>"
        rows.append(
            f'<tr><td class="left"><b>{escape(one.name)}</b></td>'
            f"<td>{NOT_DECLARED if one.n_structures is None else f'{one.n_structures:,}'}</td>"
            f"<td>{size(one.bytes) if one.bytes else NOT_DECLARED}</td>"
            f'<td class="left">{escape(state_text(one.state))} {command}</td>'
            f'<td class="left">{escape(one.title)}</td></tr>'
        )
    head = (
        '<tr><th class="left">Dataset</th><th>Structures</th><th>Size</th><th class="left">On this machine</th>'
        '<th class="left">What it is</th></tr>'
    )
    return f'<div class="scroll wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


# What they hold


def gap_html(energies: pd.DataFrame, forces: pd.DataFrame, low: str, high: str, system: str = "kcal/mol") -> str:
    """How far the levels are apart, in numbers, and the colours of the plots.

    Args:
        energies, forces: of ``contents.energies_apart`` and ``contents.forces_apart``.
    """
    names = {"low": level_label(low), "high": level_label(high), "gap": "high minus low"}
    key = "".join(
        f'<span class="swatch"><i style="background:{COLORS[name]}"></i>{escape(text)}</span>'
        for name, text in names.items()
    )
    said = [f"<div>{key}</div>"]
    if energies.empty:
        return f"{said[0]}<p>No geometry has energies at both levels in these data.</p>"
    per_atom, force = QUANTITIES["energy_per_atom"], QUANTITIES["force"]
    e_low, e_gap = (_rms(energies[name]) * per_atom.factor(system) for name in ("low", "gap"))
    how = (
        f"Root mean squares over {len(energies):,} geometries with both energies, each less what a least-squares fit "
        "to its composition explains: that is what a fit of atomic energies takes out before any training."
    )
    said.append(
        f"<div>Energies: the gap is <b>{number(e_gap)}</b> {escape(per_atom.shown[system])}, the low level’s energies "
        f"themselves {number(e_low)}{_times(e_low, e_gap)}. {why(how, 'the gap')}</div>"
    )
    if forces.empty:
        return "".join([*said, "<div>Forces: no geometry has them at both levels.</div>"])
    f_low, f_gap = (_rms(forces[name]) * force.factor(system) for name in ("low", "gap"))
    how = (
        f"Root mean squares of the forces’ lengths over {len(forces):,} atoms of "
        f"{forces['structure'].nunique():,} geometries that have forces at both levels."
    )
    said.append(
        f"<div>Forces: <b>{number(f_gap)}</b> {escape(pretty_unit(force.shown[system]))}, of {number(f_low)}"
        f"{_times(f_low, f_gap)}. {why(how, 'the difference of forces')}</div>"
    )
    return "".join(said)


def _times(whole: float, part: float) -> str:
    return f": {number(whole / part)} times smaller" if part > 0 else ""


def _rms(values: "pd.Series[float]") -> float:
    return float(np.sqrt(np.square(values).mean()))


def molecules_html(molecules: pd.DataFrame, energies: pd.DataFrame, system: str = "kcal/mol") -> str:
    """The molecules, those with most structures first where they are many, and how the gap varies over each.

    Args:
        molecules: of ``contents.by_molecule``. energies: of ``contents.energies_apart``.
    """
    quantity = QUANTITIES["energy"]
    varies = (energies["gap"] * energies["atoms"]).groupby(energies["molecule"]).std() * quantity.factor(system)
    shown = molecules.nlargest(FEW, "structures") if len(molecules) > FEW else molecules
    rows = "".join(
        f'<tr><td class="left">{escape(one["molecule"])}</td><td class="left">{escape(one["formula"])}</td>'
        f"<td>{one['atoms']}</td><td>{one['structures']:,}</td>"
        f"<td>{number(varies.get(one['molecule'], np.nan))}</td></tr>"
        for one in shown.to_dict("records")
    )
    more = f"<p>And {len(molecules) - FEW:,} more.</p>" if len(molecules) > FEW else ""
    how = why("Standard deviation over the molecule’s geometries that have both energies.", "the spread of the gap")
    head = (
        '<tr><th class="left">Molecule</th><th class="left">Formula</th><th>Atoms</th><th>Structures</th>'
        f'<th>Gap varies by {how}<span class="unit">{escape(quantity.shown[system])}</span></th></tr>'
    )
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>{more}'


def structure_html(table: pd.DataFrame, place: str, low: str, system: str = "kcal/mol") -> str:
    """One structure's labels.

    Args:
        table: of ``labels.labels_table``.
        place: which structure it is, for people.
    """
    energy, force = (pretty_unit(QUANTITIES[name].shown[system]) for name in ("energy", "force"))
    rows = "".join(
        f'<tr><td class="left">{escape(level_label(one["level"]))}</td><td>{_total(one["total"])}</td>'
        f"<td>{_signed(one['relative'])}</td><td>{number(one['force'])}</td>"
        f"<td>{'' if one['level'] == low else number(one['apart'])}</td></tr>"
        for one in table.to_dict("records")
    )
    relative = why("The energy less the mean over the structures of this molecule that are looked at.", "relative")
    apart = why("Forces: root mean square of all components; here of their difference to the low level’s.", "this")
    head = (
        '<tr><th class="left">Level</th><th>Energy<span class="unit">eV</span></th>'
        f'<th>Relative {relative}<span class="unit">{escape(energy)}</span></th>'
        f'<th>Forces<span class="unit">{escape(force)}</span></th>'
        f'<th>Off low {apart}<span class="unit">{escape(force)}</span></th></tr>'
    )
    return (
        f'<p class="soft">{escape(place)}</p><div class="scroll"><table class="tight"><thead>{head}</thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _total(value: float) -> str:
    return f"{value:,.3f}".replace("-", "−") if np.isfinite(value) else "–"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if np.isfinite(value) else "–"


# What checks found


def findings_html(name: str, findings: Sequence[Finding]) -> str:
    """A summary, then all of what failed, and the rest folded."""
    marks: Mapping[str, list[Finding]] = {
        "failed": [one for one in findings if one.failed],
        "accepted": [one for one in findings if one.accepted],
        "well": [one for one in findings if one.ok],
        "not possible": [one for one in findings if one.ok is None],
    }
    counted = ", ".join(f"{len(those)} {mark}" for mark, those in marks.items() if those)
    worst = "".join(_finding(mark, one) for mark in ("failed", "accepted") for one in marks[mark])
    rest = "".join(_finding(mark, one) for mark in ("well", "not possible") for one in marks[mark])
    head = '<tr><th></th><th class="left">Check</th><th class="left">Found</th><th class="left">Expected</th></tr>'

    def table(rows: str) -> str:
        return f'<div class="scroll"><table class="long"><thead>{head}</thead><tbody>{rows}</tbody></table></div>'

    return (
        f"<p><b>{escape(name)}</b>: {len(findings)} checks, {counted}.</p>{table(worst) if worst else ''}"
        f"<details><summary>What was checked, and found</summary>{table(rest)}</details>"
    )


def _finding(mark: str, one: Finding) -> str:
    where = f"<br>{escape('; '.join(one.where))}" if one.where and not one.ok else ""
    accepted = f"<br>accepted: {escape(one.accepted)}" if one.accepted else ""
    return (
        f'<tr><td class="left">{mark}</td><td class="left">{escape(one.check)}</td>'
        f'<td class="left">{escape(one.found)}{where}{accepted}</td><td class="left">{escape(one.expected)}</td></tr>'
    )
