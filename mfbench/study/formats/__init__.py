"""Formats of exported data: a file a code, and a line here."""

from mfbench.study.formats.aimnet import AIMNET
from mfbench.study.formats.base import Format
from mfbench.study.formats.deepmd import DEEPMD
from mfbench.study.formats.hippynn import HIPPYNN
from mfbench.study.formats.mace import MACE
from mfbench.study.formats.metatrain import METATRAIN
from mfbench.study.formats.plain import PLAIN

FORMATS: dict[str, Format] = {one.name: one for one in (PLAIN, MACE, HIPPYNN, METATRAIN, DEEPMD, AIMNET)}
