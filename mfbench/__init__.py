"""mfbench: a benchmark suite for multi-fidelity learning of interatomic potentials.

Importing the package imports nothing else: each module is imported by who needs it, so that showing
results never loads torch.
"""

__version__ = "0.1.0"
