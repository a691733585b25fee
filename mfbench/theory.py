"""Levels of theory, ordered from low to high, with citation."""

import re
from dataclasses import dataclass, field

from mfbench.errors import unknown


@dataclass(frozen=True, order=True)
class LevelOfTheory:
    """A method with a basis set. Levels compare by ``rank``, low to high, then by name."""

    rank: int
    name: str
    label: str = field(compare=False)
    doi: str = field(compare=False)

    def __str__(self) -> str:
        return self.name


_HF, _MP2 = "10.1103/RevModPhys.23.69", "10.1103/PhysRev.46.618"

_CCSD_T, _DLPNO = "10.1016/S0009-2614(89)87395-6", "10.1063/1.4821834"

_CATALOGUE = (
    LevelOfTheory(10, "gfn2-xtb", "GFN2-xTB", "10.1021/acs.jctc.8b01176"),
    LevelOfTheory(20, "hf/cc-pvdz", "HF/cc-pVDZ", _HF),
    LevelOfTheory(22, "hf/cc-pvtz", "HF/cc-pVTZ", _HF),
    LevelOfTheory(24, "hf/cc-pvqz", "HF/cc-pVQZ", _HF),
    LevelOfTheory(30, "pbe/def2-svp", "PBE/def2-SVP", "10.1103/PhysRevLett.77.3865"),
    LevelOfTheory(35, "pbe+vdw-ts", "PBE+vdW-TS", "10.1103/PhysRevLett.102.073005"),
    LevelOfTheory(40, "wb97x/6-31g*", "ωB97X/6-31G*", "10.1063/1.2834918"),
    LevelOfTheory(42, "mp2/cc-pvdz", "MP2/cc-pVDZ", _MP2),
    LevelOfTheory(44, "mp2/cc-pvtz", "MP2/cc-pVTZ", _MP2),
    LevelOfTheory(46, "mp2/cc-pvqz", "MP2/cc-pVQZ", _MP2),
    LevelOfTheory(50, "wb97x/def2-tzvpp", "ωB97X/def2-TZVPP", "10.1063/1.2834918"),
    LevelOfTheory(60, "ccsd/cc-pvdz", "CCSD/cc-pVDZ", "10.1063/1.443164"),
    # DLPNO with ORCA's NormalPNO and TightPNO thresholds, as in ANI-1ccx.
    LevelOfTheory(64, "npno-ccsd(t)/cc-pvdz", "DLPNO-CCSD(T)/cc-pVDZ (normal)", _DLPNO),
    LevelOfTheory(66, "tpno-ccsd(t)/cc-pvdz", "DLPNO-CCSD(T)/cc-pVDZ (tight)", _DLPNO),
    LevelOfTheory(70, "ccsd(t)/cc-pvdz", "CCSD(T)/cc-pVDZ", _CCSD_T),
    LevelOfTheory(76, "npno-ccsd(t)/cc-pvtz", "DLPNO-CCSD(T)/cc-pVTZ (normal)", _DLPNO),
    LevelOfTheory(80, "ccsd(t)/cc-pvtz", "CCSD(T)/cc-pVTZ", _CCSD_T),
    LevelOfTheory(90, "ccsd(t)*/cbs", "CCSD(T)*/CBS", "10.1038/s41467-019-10827-4"),
)

LEVELS = {level.name: level for level in _CATALOGUE}

_ANY_CASE = {text.casefold(): level for level in _CATALOGUE for text in (level.name, level.label)}

_OWN = re.compile(r"([^@\s][^@]*)@(\d+)")


def level(name: str) -> LevelOfTheory:
    """The level called ``name``, in any case; one of one's own is written with its rank: ``b3lyp/6-31g*@45``, and kept
    as it is written.

    Raises:
        UserError: it is neither in the catalogue, nor written with a rank.
    """
    if name in LEVELS:
        return LEVELS[name]
    if own := _OWN.fullmatch(name):
        return LevelOfTheory(int(own[2]), name, own[1], "")
    if name.casefold() in _ANY_CASE:
        return _ANY_CASE[name.casefold()]
    raise unknown("level of theory", name, LEVELS, ", or one of your own as NAME@RANK")
