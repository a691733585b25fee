"""Which structures of a dataset are wanted."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from mfbench.data.geometries import composition_hash
from mfbench.data.manifest import LabelKind
from mfbench.data.structures import BoolArray, IntArray, Structures, of_levels, take_levels
from mfbench.elements import numbers_of
from mfbench.errors import UserError, unknown
from mfbench.records import Record


class Subset(Record):
    """Which structures to load: those that fulfil every condition that is set."""

    molecules: tuple[str, ...] = ()
    formulas: tuple[str, ...] = Field((), description="Hill formulas, e.g. C2H6O")
    min_atoms: int | None = Field(None, gt=0)
    max_atoms: int | None = Field(None, gt=0)
    labelled: tuple[LabelKind, ...] = Field((), description="has all of these labels")
    sets: tuple[str, ...] = Field((), description="in any of these named sets, e.g. train_01 and test_01 of rMD17")


def chosen(
    subset: Subset,
    dataset: str,
    offsets: IntArray,
    molecule: tuple[tuple[str, ...], Callable[[], IntArray]],
    member: tuple[tuple[str, ...], Callable[[], IntArray]],
    numbers: Callable[[], IntArray],
    labelled: Callable[[LabelKind], BoolArray],
) -> BoolArray:
    """(S,) which structures a subset holds; arrays are asked for only where a condition needs them.

    Raises:
        UserError: a molecule, set or formula that the dataset does not have, or no structure is left.
    """
    n_atoms = np.diff(offsets)
    keep = np.ones(len(n_atoms), bool)
    for kind, asked, known in (("molecule", subset.molecules, molecule[0]), ("set", subset.sets, member[0])):
        for name in asked:
            if name not in known:
                raise unknown(f"{kind} of dataset {dataset}", name, known)
    if subset.molecules:
        keep &= np.isin(molecule[1](), [molecule[0].index(name) for name in subset.molecules])
    if subset.sets:
        wanted = sum(1 << member[0].index(name) for name in subset.sets)
        keep &= (member[1]() & np.uint32(wanted)) > 0
    if subset.min_atoms is not None:
        keep &= n_atoms >= subset.min_atoms
    if subset.max_atoms is not None:
        keep &= n_atoms <= subset.max_atoms
    for kind_of_label in subset.labelled:
        keep &= labelled(kind_of_label)
    if subset.formulas:
        held = composition_hash(numbers(), offsets)
        one_of = np.zeros(len(held), bool)
        for text in subset.formulas:
            elements = numbers_of(text)
            same = held == composition_hash(elements, np.array([0, len(elements)]))
            if not same.any():
                raise UserError(f"dataset {dataset} holds no structure of formula {text!r}")
            one_of |= same
        keep &= one_of
    if not keep.any():
        conditions = subset.model_dump(mode="json", exclude_defaults=True)
        raise UserError(f"no structure of dataset {dataset} fulfils all of {conditions}")
    return keep


def pick(structures: Structures, dataset: str, levels: Sequence[str] | None, subset: Subset | None) -> Structures:
    """Chosen levels and structures of what is in memory already, as ``Reader`` chooses them in a file."""
    if subset is not None:

        def labelled(kind: LabelKind) -> BoolArray:
            masks = structures.energy_mask if kind.label == "energy" else structures.force_mask
            return masks[:, structures.level_index(kind.level)]

        keep = chosen(
            subset,
            dataset,
            structures.offsets,
            (structures.molecules, lambda: structures.molecule),
            (structures.sets, lambda: structures.member),
            lambda: structures.numbers,
            labelled,
        )
        structures = structures[np.flatnonzero(keep)]
    if levels is None:
        return structures
    for name in levels:
        if name not in structures.levels:
            raise unknown(f"level of dataset {dataset}", name, structures.levels)
    columns = [k for k, name in enumerate(structures.levels) if name in levels]
    return replace(
        structures,
        levels=tuple(structures.levels[k] for k in columns),
        energies=structures.energies[:, columns],
        energy_mask=structures.energy_mask[:, columns],
        force_mask=structures.force_mask[:, columns],
        forces=take_levels(structures.forces, columns, structures.force_mask.any(0)),
        free_atoms=of_levels(structures.free_atoms, levels),
    )
