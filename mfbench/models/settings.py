"""Shapes of the networks: settings alone, which can be read without loading torch."""

from typing import Annotated, Literal

from pydantic import Field

from mfbench.records import Record


class HipnnTsSettings(Record):
    """Shape of the network. The defaults are small enough for a laptop's CPU; the bounds, far above any use, keep a
    damaged or mistyped file of settings from asking for all of a machine's memory."""

    l_max: Literal[0, 1, 2] = 2
    n_interactions: Annotated[int, Field(gt=0, le=32)] = 1
    n_atom_layers: Annotated[int, Field(ge=0, le=64)] = 3
    n_features: Annotated[int, Field(gt=0, le=4096)] = 32
    n_sensitivities: Annotated[int, Field(gt=0, le=512)] = 12
    soft_min: Annotated[float, Field(gt=0, le=100)] = 0.75  # Angstrom, centre of the first sensitivity
    soft_max: Annotated[float, Field(gt=0, le=100)] = 4.0  # Angstrom, centre of the last
    cutoff: Annotated[float, Field(gt=0, le=100)] = 5.0  # Angstrom


class _SchNetPackSettings(Record):
    """What the networks of SchNetPack share. The defaults are small enough for a laptop's CPU; the bounds are far above
    any use (see ``HipnnTsSettings``)."""

    n_features: Annotated[int, Field(gt=0, le=1024)] = 32
    n_interactions: Annotated[int, Field(gt=0, le=32)] = 3
    n_radial: Annotated[int, Field(gt=1, le=1024)] = 20  # Gaussians from 0 to the cutoff: their spacing is their width
    cutoff: Annotated[float, Field(gt=0, le=100)] = 5.0  # Angstrom


class SchNetSettings(_SchNetPackSettings):
    """Shape of SchNetPack's SchNet."""


class PaiNNSettings(_SchNetPackSettings):
    """Shape of SchNetPack's PaiNN."""


class SO3netSettings(_SchNetPackSettings):
    """Shape of SchNetPack's SO3net.

    ``l_max`` is the highest angular momentum of its features and filters: every atom holds (l_max + 1)^2 times
    n_features numbers, and the products of them grow faster still.
    """

    l_max: Annotated[int, Field(ge=0, le=3)] = 1


class LinearSettings(Record):
    """Shape of the features of a linear potential (``models.linear``)."""

    n_radial: Annotated[int, Field(ge=2, le=256)] = 6
    l_max: Annotated[int, Field(ge=0, le=3)] = 3
    cutoff: Annotated[float, Field(gt=0, le=100)] = 5.0  # Angstrom
