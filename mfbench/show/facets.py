"""What stands beside what: panels of learning curves by case, network, preset, data or hyper-parameter."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import pandas as pd

from mfbench.results.curves import Against, Curves, curves
from mfbench.results.evidence import Evidence, evidence
from mfbench.results.rows import NOTHING, SETUP, recipe_settings, setups_of, with_setup
from mfbench.results.schema import EXTERNAL, METRICS, QUANTITIES, UNIT_SYSTEMS
from mfbench.show.selection import Chosen
from mfbench.show.words import levels_label

BESIDE = {"one case": "", "all cases": "case", "networks": "backbone", "presets": "preset", "data": "data"}


@dataclass(frozen=True, eq=False)
class Facet:
    """The rows of one panel, all arms of them, and what they say."""

    heading: str
    source: Chosen  # that the rows are of, whatever of it is hidden
    table: pd.DataFrame

    @property
    def case(self) -> str:
        return self.source.case

    @property
    def by(self) -> tuple[str, ...]:
        """What tells its curves apart, beside the arm."""
        own = self.table[self.table["preset"] != EXTERNAL]
        return tuple(name for name in SETUP if own[name].nunique() > 1)

    @cached_property
    def evidence(self) -> Mapping[tuple[str, ...], Evidence]:
        """Numbers over seeds, of each (data, backbone, preset); none of metrics of people's own."""
        chosen = self.source
        if chosen.metric not in METRICS or self.table.empty:
            return {}
        stored = chosen.library.predictions
        setups = setups_of(self.table)
        return {
            one: evidence(
                (chosen, one),
                (chosen.library, chosen.version),
                with_setup(self.table, one),
                chosen.case,
                chosen.part,
                chosen.metric,
                stored,
            )
            for one in setups
        }

    @cached_property
    def spread(self) -> pd.DataFrame | None:
        """``results.summary`` of all setups."""
        found = [own.summary.assign(**dict(zip(SETUP, setup))) for setup, own in self.evidence.items()]
        return pd.concat(found, ignore_index=True) if found else None

    @cached_property
    def _judged(self) -> pd.DataFrame:
        """The few rows that curves are of."""
        rows, chosen = self.table, self.source
        found = rows[(rows["role"] == "high") & (rows["part"] == chosen.part) & (rows["metric"] == chosen.metric)]
        return found if len(found) else rows

    @lru_cache(maxsize=256)  # noqa: B019  (facets are kept as well, and few)
    def curves(self, quantity: str, system: str, against: Against) -> Curves:
        """Its learning curves of all arms."""
        chosen = self.source
        found = curves(
            self._judged, chosen.case, quantity, chosen.metric, system, chosen.part, against, self.by, self.spread
        )
        zeros = {own.zero[quantity] for own in self.evidence.values() if quantity in own.zero}
        if len(found.runs) and len(zeros) == 1:
            found = found.with_line(NOTHING, zeros.pop() * QUANTITIES[quantity].factor(system))
        return found


def settings_that_differ(chosen: Chosen) -> list[str]:
    """Names of hyper-parameters in which the chosen runs' presets differ."""
    return sorted({name for preset in chosen.table["preset"].unique() for name in recipe_settings(preset)})


def facets(chosen: Chosen, beside: str = "") -> list[Facet]:
    """The panels: one, or one for each of what stands beside each other.

    Args:
        beside: a value of ``BESIDE``, or a name of ``settings_that_differ``.
    """
    # What only changes how numbers are shown, or which of them, makes no other facets.
    return list(_facets(replace(chosen, arms=(), quantity="energy", system=UNIT_SYSTEMS[0]), beside))


@lru_cache(maxsize=32)
def _facets(chosen: Chosen, beside: str) -> tuple[Facet, ...]:
    rows, own = chosen.library.table, chosen.table[chosen.table["preset"] != EXTERNAL]
    if beside == "case":
        found = [chosen.of_case(case) for case in rows["case"].unique()]
        return tuple(Facet(_title(one), one, one.table) for one in found if len(one.table))
    if beside == "data":
        names = rows.loc[rows["case"] == chosen.case, "data"].unique()
        parts = {name: replace(chosen, data=name) for name in names}
    elif beside == "backbone":
        parts = {name: replace(chosen, backbones=(name,)) for name in own["backbone"].unique()}
    elif beside == "preset":
        parts = {name: replace(chosen, presets=(name,)) for name in own["preset"].unique()}
    elif beside:
        values: dict[str, tuple[str, ...]] = {}
        for preset in own["preset"].unique():
            value = recipe_settings(preset).get(beside, "as in the preset")
            values[f"{beside}: {value}"] = (*values.get(f"{beside}: {value}", ()), preset)
        parts = {name: replace(chosen, presets=presets) for name, presets in values.items()}
    else:
        parts = {_title(chosen): chosen}
    return tuple(Facet(heading, one, one.table) for heading, one in parts.items())


def _title(chosen: Chosen) -> str:
    return f"{chosen.case}: {levels_label(chosen.table, chosen.case)}" if len(chosen.table) else chosen.case
