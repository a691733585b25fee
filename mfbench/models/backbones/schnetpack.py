"""SchNetPack's representations as they are, through one adapter: a fresh input dict for every call.

SchNetPack 2.0: 10.1063/5.0138367. Its framework (configurations, transforms, data modules) is not used.
"""

from typing import Any

from schnetpack import properties
from schnetpack.nn import CosineCutoff, GaussianRBF
from schnetpack.representation import PaiNN, SchNet, SO3net
from torch import Tensor, nn

from mfbench.models.block import Block, sent
from mfbench.models.contract import Backbone, required_level
from mfbench.models.pairs import flat_pairs
from mfbench.models.settings import PaiNNSettings, SchNetSettings, SO3netSettings

_LEVEL = "mfbench_level"  # in the input dict: the level of each atom, (atoms,)


class LevelEmbedding(nn.Module):
    """A learned vector a level, in the form of SchNetPack's embeddings: added to that of the elements."""

    def __init__(self, n_levels: int, n_features: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(n_levels, n_features)
        nn.init.zeros_(self.vectors.weight)  # levels begin alike: what one learns, the others know

    def forward(self, embedding: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """(atoms, F), whatever the ``embedding`` (atoms, F) so far."""
        return self.vectors(inputs[_LEVEL])


class SchNetPackBackbone(Backbone):
    """Any representation of SchNetPack that gives ``scalar_representation``, as a backbone of one block."""

    def __init__(self, representation: nn.Module, width: int, takes_level: bool = False) -> None:
        """Wrap a representation, whose cutoff function is zero for pairs that are no neighbours.

        Args:
            width: of its ``scalar_representation``.
            takes_level: whether a ``LevelEmbedding`` is among its ``electronic_embeddings``.
        """
        super().__init__()
        self.representation, self.takes_level = representation, takes_level
        self.feature_sizes, self.head_bias = (width,), (True,)
        self.parameter_blocks = _blocks(representation)

    def forward(self, block: Block) -> list[Tensor]:
        batch, width = block.numbers.shape
        # All pairs, those beyond the cutoff included: SchNetPack's cutoff functions are zero there, and which pairs are
        # near is known on the device alone, which would have to be waited for.
        flat = flat_pairs(block)
        slots, owner, i, j = (sent(index, block.numbers.device) for index in flat)
        positions = block.positions.reshape(-1, 3)[slots]
        inputs = {
            properties.Z: block.numbers.reshape(-1)[slots],
            properties.R: positions,
            properties.Rij: positions[j] - positions[i],
            properties.idx_i: i,
            properties.idx_j: j,
            properties.idx_m: owner,
        }
        if self.takes_level:
            inputs[_LEVEL] = required_level(block)[owner]
        features = self.representation(inputs)["scalar_representation"]
        padded = features.new_zeros(batch * width, features.shape[-1]).index_copy(0, slots, features)
        return [padded.reshape(batch, width, -1)]


def _build(network: type[nn.Module], settings: Any, n_levels: int, **shape: int) -> SchNetPackBackbone:
    """The network with Gaussian radial functions and a cosine cutoff, and the level as an input if ``n_levels``."""
    representation = network(
        n_atom_basis=settings.n_features,
        n_interactions=settings.n_interactions,
        radial_basis=GaussianRBF(n_rbf=settings.n_radial, cutoff=settings.cutoff),
        cutoff_fn=CosineCutoff(settings.cutoff),
        electronic_embeddings=[LevelEmbedding(n_levels, settings.n_features)] if n_levels else None,
        **shape,
    )
    return SchNetPackBackbone(representation, settings.n_features, takes_level=n_levels > 0)


def schnet(settings: SchNetSettings, n_levels: int = 0) -> SchNetPackBackbone:
    """SchNet (Schütt et al., 10.1063/1.5019779): filters of the distance; no directions."""
    return _build(SchNet, settings, n_levels)


def _blocks(representation: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Beginnings of parameter names by interaction block: SchNetPack keeps each kind of layer in a list over blocks.

    What is in no list, such as the embedding of the elements, belongs to the first.
    """
    lists = {name: part for name, part in representation.named_children() if isinstance(part, nn.ModuleList)}
    count = max((len(part) for part in lists.values()), default=0)
    inside = tuple(f"{name}." for name in lists)
    alone = tuple(name for name, _ in representation.named_parameters() if not name.startswith(inside))
    blocks = [tuple(f"{name}.{k}." for name, part in lists.items() if k < len(part)) for k in range(count)]
    return tuple(
        tuple(f"representation.{name}" for name in (*(alone if k == 0 else ()), *names))
        for k, names in enumerate(blocks)
    )


def painn(settings: PaiNNSettings, n_levels: int = 0) -> SchNetPackBackbone:
    """PaiNN (Schütt, Unke, Gastegger, ICML 2021): scalar and vector features."""
    return _build(PaiNN, settings, n_levels)


def so3net(settings: SO3netSettings, n_levels: int = 0) -> SchNetPackBackbone:
    """SO3net (10.1063/5.0138367): features up to l_max, coupled by Clebsch-Gordan coefficients.

    Only couplings that keep parity are among them (l1 + l2 + l even), so a reflection changes no energy. They are
    rounded to float32 in SchNetPack, so in float64 a rotation changes energies by some 1e-10 of their size.
    """
    return _build(SO3net, settings, n_levels, lmax=settings.l_max)
