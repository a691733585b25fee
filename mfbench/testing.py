"""The contracts of backbones, arms, cases, datasets and metrics, as functions that raise AssertionError.

Run them over what you add to mfbench: ``check_backbone(MyNetwork(...))``. Networks are checked in float64.
"""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mfbench import theory
from mfbench.data import cases, checks, datasets, store
from mfbench.data.cases import Case
from mfbench.data.manifest import Dataset, Manifest, manifest
from mfbench.data.reading import read
from mfbench.data.splits import Indices
from mfbench.data.structures import Frames, Structures, assemble
from mfbench.errors import UserError
from mfbench.learning.device import DeviceStructures, Labelled
from mfbench.learning.loss import level_sums, total_loss
from mfbench.learning.optimisation import LossWeights
from mfbench.learning.problem import Arm, ClosedForm, Problem, Stage, Training, assembled
from mfbench.learning.sources import Source, Term, draw
from mfbench.learning.step import Learner, train_step
from mfbench.models.backbones.kinds import Network
from mfbench.models.block import Block
from mfbench.models.contract import Backbone, Potential, forces
from mfbench.models.potentials import HeadsPotential
from mfbench.records import Record
from mfbench.results.metrics import Metric, metric
from mfbench.study.experiment import experiment
from mfbench.study.prepare import prepare

# Atoms on a jittered grid: no two closer than a short bond, some beyond a usual cutoff.
_SIZES = (2, 3, 5, 9, 17, 30)


def random_structures(
    elements: tuple[int, ...], levels: tuple[str, ...], seed: int = 0, sizes: Sequence[int] = _SIZES
) -> Structures:
    """One random structure of each size, with random labels at every level."""
    rng = np.random.default_rng(seed)
    frames = []
    for k, n in enumerate(sizes):
        grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)
        places = grid[rng.permutation(len(grid))[:n]] if k else grid[:n]
        frames.append(
            Frames(
                molecule=f"random-{n}",
                numbers=rng.choice(elements, n).astype(np.uint8),
                positions=(places * 1.4 + rng.normal(0, 0.12, (n, 3)))[None],
                energies=rng.normal(0, 3, (1, len(levels))),
                forces=list(rng.normal(0, 1, (len(levels), 1, n, 3))),
                file="random",
                rows=np.array([k]),
            )
        )
    return assemble(levels, frames)


def labelled(structures: Structures, indices: list[int] | None = None, labels: bool = True) -> Labelled:
    """The chosen structures in one padded float64 block, with all their labels, ordered by size."""
    data = DeviceStructures(structures, torch.device("cpu"), torch.float64)
    chosen = np.arange(len(structures)) if indices is None else np.asarray(indices)
    terms = tuple(Term(name, labels, labels) for name in structures.levels)
    (found,) = data.blocks([Source(chosen, terms)], max_blocks=1)
    return found


def block_of(structures: Structures, indices: list[int] | None = None) -> Block:
    """The chosen structures in one padded float64 block, ordered by size; every level is wanted."""
    return labelled(structures, indices).block


def potential_on(backbone: Backbone, levels: tuple[str, ...] = ("low", "high"), seed: int = 0) -> HeadsPotential:
    """The backbone in float64 with random heads and no atomic energies."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        potential = HeadsPotential(copy.deepcopy(backbone), levels, levels).double()
        for parameter in potential.linear.parameters():
            torch.nn.init.normal_(parameter)
        return potential


def check_backbone(backbone: Backbone, elements: tuple[int, ...] = (1, 6, 7, 8)) -> None:
    """Everything that a backbone promises, by the energies and forces of a potential on it."""
    structures = random_structures(elements, ("low", "high"))
    potential = potential_on(backbone)
    check_features(backbone, structures)
    check_padding(potential, structures)
    check_symmetry(potential, structures)
    check_forces(potential, structures)


def check_features(backbone: Backbone, structures: Structures) -> None:
    """Features have the declared sizes and are finite, and the block is left as it was."""
    block = block_of(structures)
    before = copy.deepcopy(block)
    features = copy.deepcopy(backbone).double()(block)
    assert len(features) == len(backbone.feature_sizes) == len(backbone.head_bias)
    for tensor, size in zip(features, backbone.feature_sizes):
        assert tensor.shape == (*block.numbers.shape, size), f"{tensor.shape=}, {size=}"
        assert torch.isfinite(tensor).all()
    for name in ("numbers", "positions"):
        assert torch.equal(getattr(block, name), getattr(before, name)), f"{name} was changed"


def energies_and_forces(potential: Potential, block: Block) -> tuple[Tensor, Tensor]:
    """Energies (B, L) and forces (B, N, L, 3) at every level."""
    positions = block.positions.detach().requires_grad_()
    energies = potential(replace(block, positions=positions)).energies
    levels = range(len(potential.levels))
    stacked = torch.stack([forces(energies, positions, k, create_graph=False) for k in levels], 2)
    return energies.detach(), stacked


def check_padding(potential: Potential, structures: Structures, rtol: float = 1e-10) -> None:
    """A padded mixed batch gives what each structure gives alone; padding atoms feel no force."""
    together, pushed = energies_and_forces(potential, block_of(structures))
    for s in range(len(structures)):
        alone, force = energies_and_forces(potential, block_of(structures, [s]))
        n = int(structures.n_atoms[s])
        torch.testing.assert_close(together[s], alone[0], rtol=rtol, atol=1e-12)
        torch.testing.assert_close(pushed[s, :n], force[0], rtol=rtol, atol=1e-10)
        assert (pushed[s, n:] == 0).all(), "padding atoms feel a force"


def check_symmetry(potential: Potential, structures: Structures, atol: float = 1e-9) -> None:
    """Rotation, reflection and translation of all, and reordering of atoms, change no energy; forces turn along.

    ``atol`` is relative to the largest energy, where that is above 1 eV (SO3net's constants are single precision).
    """
    block = block_of(structures)
    energies, pushed = energies_and_forces(potential, block)
    atol *= max(1.0, float(energies.abs().max()))
    rng = np.random.default_rng(1)
    rotation = torch.as_tensor(np.linalg.qr(rng.normal(size=(3, 3)))[0])
    for turn in (rotation, -rotation):
        moved = replace(block, positions=block.positions @ turn.T + torch.tensor([3.0, -1.0, 2.0]))
        again, turned = energies_and_forces(potential, moved)
        torch.testing.assert_close(again, energies, rtol=0, atol=atol)
        torch.testing.assert_close(turned, pushed @ turn.T, rtol=0, atol=atol)
    width = block.numbers.shape[1]  # the atoms of each structure change places; padding stays behind them
    order = torch.as_tensor(np.stack([np.append(rng.permutation(n), np.arange(n, width)) for n in block.sizes]))
    row = torch.arange(len(order))[:, None]
    mixed = replace(block, numbers=block.numbers[row, order], positions=block.positions[row, order])
    again, reordered = energies_and_forces(potential, mixed)
    torch.testing.assert_close(again, energies, rtol=0, atol=atol)
    torch.testing.assert_close(reordered, pushed[row, order], rtol=0, atol=atol)


def check_forces(potential: Potential, structures: Structures, rtol: float = 1e-6) -> None:
    """Forces are minus the slope of the energy along random directions, at every level with a head.

    The slope is a five-point difference; ``rtol`` is relative to the largest slope.
    """
    block = block_of(structures)
    columns = [potential.levels.index(name) for name in potential.heads]
    _, pushed = energies_and_forces(potential, block)
    real = (block.numbers > 0).unsqueeze(-1)
    rng = np.random.default_rng(2)
    step = 3e-5  # norms are smoothed at zero over some 1e-3 (hippynn) to 1e-4 (PaiNN) only
    for _ in range(3):
        direction = torch.as_tensor(rng.normal(size=block.positions.shape)) * real

        def energy(steps: int, direction: Tensor = direction) -> Tensor:
            moved = block.positions + steps * step * direction
            with torch.no_grad():
                return potential(replace(block, positions=moved)).energies

        slope = (8 * (energy(1) - energy(-1)) - (energy(2) - energy(-2))) / (12 * step)  # (B, L)
        along = (pushed * direction.unsqueeze(2)).sum((1, 3))
        scale = float(slope.abs().max())
        assert scale > 0
        torch.testing.assert_close(along[:, columns], -slope[:, columns], rtol=0, atol=rtol * scale)


def device_data(structures: Structures) -> DeviceStructures:
    """The structures on the CPU in float64."""
    return DeviceStructures(structures, torch.device("cpu"), torch.float64)


def stage_loss(stage: Stage, sources: tuple[Source, ...], structures: Structures) -> Tensor:
    """The training loss of one batch that holds all of the sources, in float64."""
    sums = level_sums(stage.potential, device_data(structures).blocks(sources), training=True)
    return total_loss(sums, LossWeights())


def check_arm(arm: Arm, problem: Problem, network: Network, options: Record | None = None) -> None:
    """What an arm promises: it trains on the labels it names and on no other, with the budget it is given.

    Forces are minus the slope of the energy at every head; spoiling every label that the arm does not name
    changes neither loss nor validation, bit for bit; structures outside the selection are never drawn; the
    gradient reaches every parameter that a stage trains, no other, and is finite; the stages' steps do not add
    up to more than the budget; what it says to learn is what its plan names; the potential is built without data;
    and a training step never asks the device for a number (``check_step``).
    """
    options = options or arm.options.model_validate({})
    potential, stages = _built(arm, problem, network, options)
    assert stages, "an arm has at least one stage"
    levels = problem.levels
    assert {term.level for term in levels.terms} >= set(potential.heads)
    lessons = [stage.lesson for stage in stages]
    steps = sum(lesson.optimisation.steps for lesson in lessons)
    assert steps <= problem.optimisation.steps, f"{steps=} > {problem.optimisation.steps=}"
    allowed = selected(problem, validation=False)
    allowed_validation = selected(problem, validation=True)
    for lesson in lessons:
        for source in lesson.train:
            assert np.isin(source.indices, allowed_validation if arm.trains_on_validation else allowed).all(), (
                "trains on structures that were not selected"
            )
        for source in lesson.validation:
            assert np.isin(source.indices, allowed_validation).all(), "validates on structures not selected"
    named = tuple(s for lesson in lessons for s in (*lesson.train, *lesson.validation))
    trained_on = {term.level for lesson in lessons for source in lesson.train for term in source.terms}
    assert trained_on == {term.level for term in arm.learns(levels, options)}, "says that it learns other levels"
    spoiled = _spoiled(problem.structures, named)
    other, other_stages = _built(arm, replace(problem, structures=spoiled), network, options)
    for stage, again in zip(stages, other_stages, strict=True):
        for one, labels in ((stage, problem.structures), (again, spoiled)):
            begin = one.solve if isinstance(one, ClosedForm) else one.start if isinstance(one, Training) else None
            if begin is not None:
                begin(device_data(labels))
        for part, same in (
            (stage.lesson.train, again.lesson.train),
            (stage.lesson.validation, again.lesson.validation),
        ):
            if part:
                loss = stage_loss(stage, part, problem.structures)
                assert torch.equal(loss, stage_loss(again, same, spoiled)), "labels that the arm does not name matter"
                assert torch.isfinite(loss)
        if isinstance(stage, Training):
            check_step(stage, problem.structures)
            _check_gradients(stage, problem.structures)
    for name, tensor in potential.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), f"{name} depends on labels that the arm does not name"
    # Weights moved at random make a rougher surface than fresh ones.
    check_forces(potential, problem.structures[allowed[:8]], rtol=1e-5)


def check_step(stage: Training, structures: Structures) -> None:
    """A training step neither touches the host nor waits for the device: it runs on torch's ``meta`` device.

    There tensors have shapes and no content, so that whatever needs a number of one, or mixes in a tensor of another
    device, raises.
    """
    meta = torch.device("meta")
    there = replace(stage, potential=copy.deepcopy(stage.potential).to(meta))
    data = DeviceStructures(structures, meta, next(there.potential.parameters()).dtype)
    drawn = [draw(source, 4, 0, k, 0) for k, source in enumerate(stage.lesson.train)]
    loss, norm = train_step(Learner(there, meta), data.blocks(drawn), 1e-3, 0)
    assert loss.device == norm.device == meta


def _check_gradients(stage: Training, structures: Structures) -> None:
    """Gradients of a stage are finite and reach what it trains and nothing else."""
    stage.potential.zero_grad()
    trained = stage.trained()
    energies = any(term.energy for source in stage.lesson.train for term in source.terms)
    for name, parameter in stage.potential.named_parameters():
        parameter.requires_grad_(name in trained)
    stage_loss(stage, stage.lesson.train, structures).backward()
    for name, parameter in stage.potential.named_parameters():
        if name in trained:
            assert parameter.grad is not None, f"no gradient reaches {name}"
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
            if energies:  # what adds constants to the energy is in no force
                assert parameter.grad.abs().sum() > 0, f"the gradient of {name} is zero"
        else:
            assert parameter.grad is None, f"{name} is frozen and has a gradient"
    stage.potential.zero_grad()


def selected(problem: Problem, validation: bool) -> Indices:
    """All structures that are selected to train on (and, with ``validation``, to validate on)."""
    chosen = problem.selection
    every = (*chosen.levels.values(), chosen.oracle)
    return np.unique(np.concatenate([part for one in every for part in (one if validation else one[:1])]))


def _built(arm: Arm, problem: Problem, network: Network, options: Record) -> tuple[Potential, list[Stage]]:
    """The arm's potential in float64, moved off its start, where gradients may vanish by symmetry."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        potential, stages = assembled(arm, problem, network, options)
        potential = potential.double()
        with torch.no_grad():
            for parameter in potential.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return potential, stages


def _spoiled(structures: Structures, sources: tuple[Source, ...]) -> Structures:
    """The structures with every label replaced by a wild number that no term of the sources names."""
    keep_energy = np.zeros_like(structures.energy_mask)
    keep_force = np.zeros_like(structures.force_mask)
    for source in sources:
        for term in source.terms:
            column = structures.level_index(term.level)
            keep_energy[source.indices, column] |= term.energy
            keep_force[source.indices, column] |= term.forces
            if term.minus is not None:
                keep_energy[source.indices, structures.level_index(term.minus)] = True
    per_atom = np.repeat(keep_force, structures.n_atoms, 0).T[:, :, None]
    return replace(
        structures,
        energies=np.where(keep_energy, structures.energies, 1e9),
        forces=np.where(per_atom, structures.forces, np.float32(1e9)),
    )


def check_dataset(given: str | Manifest | Dataset, folder: Path | None = None) -> None:
    """What a dataset promises: its files are those declared, and hold what is declared, in the units declared.

    Everything that ``mfbench data check`` looks at; and that reading twice, or reading the converted file, gives the
    same structures.

    Args:
        folder: where its raw files are, in place of the cache.
    """
    declared = manifest(given)
    try:
        paths = datasets.raw_files(declared, folder)
        structures = read(declared, paths)
        checks.require(checks.check(declared, structures))
        with tempfile.TemporaryDirectory() as scratch:
            converted = store.read(datasets.convert(declared, paths, Path(scratch) / "converted.h5"))
        again = read(declared, paths)
    except UserError as error:
        raise AssertionError(f"dataset {declared.name}: {error}") from error
    for name, other in (("read again", again), ("converted", converted)):
        for one in fields(Structures):
            same = np.array_equal(getattr(structures, one.name), getattr(other, one.name))
            assert same, f"dataset {declared.name}, {name}: {one.name} differs"


def check_case(given: str | Path | Case, data_folder: Path | None = None) -> None:
    """What a case promises: its levels and sizes can be had from its data, and no geometry is in two parts.

    Variants whose data are not on this machine are left out, but at least one must be.
    """
    case, tried = cases.case(given), 0
    for name, rules in case.data.items():
        low, high = case.low, case.high_of(name)
        assert theory.level(low) < theory.level(high), f"{case.name}, {name}: expected {low} below {high}"
        held = {level for dataset in rules.datasets for level in manifest(dataset).levels}
        assert held >= {low, high, *rules.further}, f"{case.name}, {name}: its datasets hold {sorted(held)} alone"
        smaller = None
        for n_high in rules.sizes:
            settings = experiment(str(given) if isinstance(given, Path) else given, "MF", data=name, n_high=n_high)
            try:
                prepared = prepare(settings, data_folder)
            except datasets.DataMissing:
                break
            except UserError as error:
                raise AssertionError(f"{case.name}, {name}, n_high = {n_high}: {error}") from error
            tried += 1
            split, chosen, geometry = prepared.split, prepared.selection, prepared.structures.geometry
            judged = geometry[np.concatenate([split.test, split.unseen])]
            train, validation = (list(each) for each in zip(*chosen.levels.values(), chosen.oracle))
            used, trained = geometry[np.concatenate(train + validation)], geometry[np.concatenate(train)]
            assert len(judged), f"{case.name}, {name}: expected structures to judge on, found none"
            assert not np.isin(used, judged).any(), f"{case.name}, {name}: a geometry that is judged on is trained on"
            validated = np.isin(geometry[np.concatenate(validation)], trained)
            assert not validated.any(), f"{case.name}, {name}: a geometry that is validated on is trained on"
            if smaller is not None:
                assert np.isin(smaller, chosen.high.train).all(), f"{case.name}, {name}: sizes are not nested"
            smaller = chosen.high.train
    assert tried, f"{case.name}: expected data of at least one data choice on this machine, found none"


def check_metric(given: Metric) -> None:
    """What a metric promises: one finite number, whatever the order of structures, and its input left as it was."""
    judge, rng = metric(given), np.random.default_rng(0)
    for quantity in judge.quantities:
        shape = (40, 3) if quantity == "force" else (40,)
        reference = rng.normal(size=shape)
        order = rng.permutation(len(reference))
        for predicted in (reference.copy(), reference + rng.normal(size=shape)):
            before = predicted.copy(), reference.copy()
            try:
                value, again = (
                    judge(quantity, predicted, reference),
                    judge(quantity, predicted[order], reference[order]),
                )
            except UserError as error:
                raise AssertionError(str(error)) from error
            assert np.isclose(value, again), f"{judge.name}: the order of structures changes {value} to {again}"
            kept = np.array_equal(predicted, before[0]) and np.array_equal(reference, before[1])
            assert kept, f"{judge.name}: its input was changed"
