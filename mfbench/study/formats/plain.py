"""Extended XYZ for any code: a frame a structure, with the labels that there are."""

from mfbench.study.formats import extxyz
from mfbench.study.formats.base import Format

PLAIN = Format(
    name="plain",
    notes=("A frame has the keys of the labels it contributes and no others.",),
    write=extxyz.write,
)
