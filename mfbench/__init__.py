"""mfbench: a benchmark suite for multi-fidelity learning of interatomic potentials.

Importing the package imports nothing else: each module is imported by who needs it, so that showing
results never loads torch. ``mfbench.load`` (of ``mfbench.models``) and ``mfbench.experiment.register`` are imported
where they are first used.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mfbench.study.experiment import register as register
    from mfbench.study.load import load as load
else:

    def __getattr__(name):
        if name == "load":
            from mfbench.study.load import load

            return load
        if name == "register":
            from mfbench.study.experiment import register

            return register
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
