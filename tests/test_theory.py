"""Levels of theory: order, names, label cost."""

import pytest

from mfbench.errors import UserError
from mfbench.theory import LEVELS, level


def test_order_is_low_to_high() -> None:
    names = ["ccsd(t)*/cbs", "gfn2-xtb", "ccsd/cc-pvdz", "wb97x/def2-tzvpp", "pbe/def2-svp", "wb97x/6-31g*"]
    assert [str(one) for one in sorted(map(level, names))] == [
        "gfn2-xtb",
        "pbe/def2-svp",
        "wb97x/6-31g*",
        "wb97x/def2-tzvpp",
        "ccsd/cc-pvdz",
        "ccsd(t)*/cbs",
    ]
    assert level("pbe/def2-svp") < level("ccsd(t)/cc-pvtz")


def test_the_catalogue_is_consistent() -> None:
    ranks = [one.rank for one in LEVELS.values()]
    assert len(set(ranks)) == len(ranks)
    assert all(name == one.name == one.name.lower() for name, one in LEVELS.items())
    assert all(one.doi.startswith("10.") and one.label for one in LEVELS.values())


def test_unknown_level_names_what_exists() -> None:
    with pytest.raises(UserError, match=r"unknown level of theory 'wb97x/6-31g': .*did you mean 'wb97x/6-31g\*'"):
        level("wb97x/6-31g")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("CCSD/cc-pVDZ", "ccsd/cc-pvdz"),
        ("wB97X/6-31G*", "wb97x/6-31g*"),
        ("ωB97X/6-31G*", "wb97x/6-31g*"),
        ("B3LYP/6-31G*@45", "B3LYP/6-31G*@45"),
    ],
)
def test_a_level_is_known_in_any_case_and_ones_own_kept_as_it_is(written: str, name: str) -> None:
    assert level(written).name == name
