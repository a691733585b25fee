"""Use what was trained: ``mfbench.load`` rebuilds the potential of a finished run, with no data at hand."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final, overload

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mfbench import results
from mfbench.batch import Block, arrange
from mfbench.calculator import Prediction, Predictor
from mfbench.datasets.own import count_extxyz
from mfbench.errors import UserError
from mfbench.experiment import Experiment, Prepared, build
from mfbench.potential import Potential
from mfbench.potential import forces as gradient
from mfbench.splits import Selection, Split
from mfbench.structures import Frames, Structures, assemble
from mfbench.training import Stage

DType = Literal["float32", "float64"]
WEIGHTS_FILE, SETTINGS_FILE = "weights.safetensors", "settings.json"
_MAX_PAIRS = 1 << 18  # padded pairs of atoms in a block: what bounds the memory
_MADE_UP = 300  # structures that a potential is built on; an MF+ committee shares a third of them out
_AT_A_TIME = 512  # structures of a file


@overload
def load(  # type: ignore[overload-overlap]  # a str is a sequence of str, but never meant as one
    run: str | os.PathLike[str], device: str = "cpu", dtype: DType | None = None
) -> "Model": ...
@overload
def load(run: Sequence[str | os.PathLike[str]], device: str = "cpu", dtype: DType | None = None) -> "Committee": ...
def load(
    run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], device: str = "cpu", dtype: DType | None = None
) -> "Model | Committee":
    """The model of a finished run, or the committee of several.

    Args:
        run: a run folder; or several, for a committee.
        device: ``cpu``, ``cuda`` or ``cuda:k``.
        dtype: what the network computes in; by default what it was trained in. Energies are float64 all the same.

    Raises:
        UserError: no such folder; a run that is not finished; a file that is missing or damaged.
    """
    where = _device(device)
    if dtype not in (None, "float32", "float64"):
        raise UserError(f"dtype: expected float32 or float64, got {dtype!r}")
    if isinstance(run, str | os.PathLike):
        return _load(Path(run), where, dtype)
    folders = [Path(one) for one in run]
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UserError(
            f"a committee: expected two or more different run folders, got {', '.join(map(str, folders)) or 'none'}"
        )
    return Committee([_load(folder, where, dtype) for folder in folders])


@final
class Model(Predictor):
    """What one run trained."""

    committee = False

    def __init__(
        self, run: str, settings: Experiment, potential: Potential, elements: tuple[int, ...], trained_on: str
    ) -> None:
        """``potential``: trained, on its device; no gradient of its weights is ever taken here."""
        self.runs, self.settings, self.arm = (run,), settings, settings.arm
        self.potential, self.levels = potential, potential.heads
        self.elements, self.trained_on = elements, trained_on

    def predict(
        self, structures: Structures | Iterable[Atoms], level: str | None = None, forces: bool = True
    ) -> Prediction:
        """See ``Predictor.predict``."""
        level = self.resolve(level)
        return self._predict(_flat(structures, self.elements), level, forces)

    def _predict(self, flat: "_Flat", level: str, forces: bool) -> Prediction:
        column, n_atoms = self.potential.levels.index(level), np.diff(flat.offsets)
        energies = np.zeros(len(n_atoms))
        pushed = np.zeros((len(flat.numbers), 3)) if forces else None
        for rows in arrange(n_atoms, _MAX_PAIRS) if len(n_atoms) else ():
            block, atoms, inside = self._block(flat, rows, column)
            positions = block.positions.requires_grad_(forces)
            with torch.set_grad_enabled(forces):
                out = self.potential(block).energies
            energies[rows] = out[:, column].detach().cpu().numpy()
            if pushed is not None:
                pushed[atoms] = gradient(out, positions, column, create_graph=False).cpu().numpy()[inside]
            bad = ~np.isfinite(energies[rows])
            if pushed is not None:
                bad |= ~np.isfinite(np.add.reduceat(pushed[atoms].sum(1), _starts(n_atoms[rows])))
            if bad.any():
                raise UserError(
                    f"structure {rows[bad].min()}: expected a finite energy and forces, got none at {level}: are atoms "
                    "in one place, or far too close?"
                )
        return Prediction(level, flat.offsets, energies, pushed)

    def _block(
        self, flat: "_Flat", rows: NDArray[np.int64], column: int
    ) -> tuple[Block, NDArray[np.int64], NDArray[np.bool_]]:
        """The structures as one block without labels, which atoms they are, and (B, N) where those are in it."""
        counts = np.diff(flat.offsets)[rows]
        atoms = np.repeat(flat.offsets[rows] - _starts(counts), counts) + np.arange(counts.sum())
        inside = np.arange(counts.max()) < counts[:, None]
        numbers = np.zeros(inside.shape, np.int64)
        positions = np.zeros((*inside.shape, 3))
        numbers[inside], positions[inside] = flat.numbers[atoms], flat.positions[atoms]
        parameter = next(self.potential.parameters())
        device, labels = parameter.device, (len(rows), len(self.potential.levels))
        block = Block(
            index=torch.as_tensor(rows, device=device),
            numbers=torch.as_tensor(numbers, device=device),
            positions=torch.as_tensor(positions, dtype=parameter.dtype, device=device),
            energies=torch.zeros(labels, dtype=torch.float64, device=device),
            forces={},
            energy_mask=torch.zeros(labels, dtype=torch.bool, device=device),
            force_mask=torch.zeros(labels, dtype=torch.bool, device=device),
            difference_masks={},
            wanted=frozenset([column]),
        )
        return block, atoms, inside


@final
class Committee(Predictor):
    """Several runs as one: the mean of their predictions, and its spread (sample standard deviation).

    It has the levels and the elements that all of its members have.
    """

    committee = True

    def __init__(self, members: Sequence[Model]) -> None:
        """``members``: two or more; raises UserError where they have no level in common."""
        self.members = tuple(members)
        first = self.members[0]
        self.levels = tuple(name for name in first.levels if all(name in one.levels for one in self.members))
        self.elements = tuple(z for z in first.elements if all(z in one.elements for one in self.members))
        if not self.levels or not self.elements:
            known = "; ".join(f"{one.runs[0]}: {', '.join(one.levels)}" for one in self.members)
            raise UserError(f"a committee: expected runs with a level and elements in common, got {known}")
        self.runs = tuple(one.runs[0] for one in self.members)
        self.settings = tuple(one.settings for one in self.members)
        self.arm = ", ".join(dict.fromkeys(one.arm for one in self.members))
        self.trained_on = "; or ".join(dict.fromkeys(one.trained_on for one in self.members))

    def predict(
        self, structures: Structures | Iterable[Atoms], level: str | None = None, forces: bool = True
    ) -> Prediction:
        """See ``Predictor.predict``."""
        level = self.resolve(level)
        flat = _flat(structures, self.elements)
        every = [one._predict(flat, level, forces) for one in self.members]
        energies = np.stack([one.energies for one in every])  # (M, S)
        found = Prediction(level, flat.offsets, energies.mean(0), None, energies.std(0, ddof=1))
        pushed = [one.forces for one in every if one.forces is not None]  # M times (A, 3)
        if not pushed:
            return found
        return replace(found, forces=np.mean(pushed, 0), forces_std=np.std(pushed, 0, ddof=1))


# Structures


@dataclass(frozen=True)
class _Flat:
    """S structures with A atoms in all, their centres at the origin."""

    numbers: NDArray[np.integer]  # (A,)
    positions: NDArray[np.float64]  # (A, 3) Angstrom
    offsets: NDArray[np.int64]  # (S + 1,)


def _starts(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


def _flat(structures: Structures | Iterable[Atoms], elements: tuple[int, ...]) -> _Flat:
    """The structures' atoms, checked. They are centred: far from the origin, float32 would round positions off."""
    if isinstance(structures, Structures):
        numbers, positions, offsets = structures.numbers, structures.positions, structures.offsets
    else:
        every = [structures] if isinstance(structures, Atoms) else list(structures)
        for s, atoms in enumerate(every):
            if not isinstance(atoms, Atoms):
                raise UserError(f"structure {s}: expected ase.Atoms, got {type(atoms).__name__}")
            if atoms.pbc.any():
                raise UserError(
                    f"structure {s}: expected an isolated molecule, got a periodic structure; if it is a molecule in a "
                    "box, set atoms.pbc = False"
                )
        offsets = np.cumsum([0, *(len(atoms) for atoms in every)])
        numbers = np.concatenate([[], *(atoms.numbers for atoms in every)]).astype(np.int64)
        positions = np.concatenate([np.zeros((0, 3)), *(atoms.positions for atoms in every)])
    counts = np.diff(offsets)
    owner = np.repeat(np.arange(len(counts)), counts)
    if not counts.all():
        raise UserError(f"structure {np.flatnonzero(counts == 0)[0]}: expected atoms, got none")
    if (odd := ~np.isfinite(positions).all(1)).any():
        raise UserError(f"structure {owner[odd][0]}: expected finite positions, got {positions[odd][0].tolist()}")
    if (odd := ~np.isin(numbers, elements)).any():
        strange = ", ".join(chemical_symbols[z] for z in np.unique(numbers[odd]))
        raise UserError(
            f"structure {owner[odd][0]}: expected elements that this model was trained on, "
            f"{', '.join(chemical_symbols[z] for z in elements)}; got {strange}"
        )
    if not len(counts):
        return _Flat(numbers, np.zeros((0, 3)), offsets)
    centres = np.add.reduceat(positions.astype(np.float64), offsets[:-1]) / counts[:, None]
    return _Flat(numbers, positions - centres[owner], offsets)


# Run folders


def _device(name: str) -> torch.device:
    unknown_device = UserError(
        f"unknown device {name!r}: expected cpu, cuda or cuda:K (several runs, for a committee, go in one list)"
    )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise unknown_device from error
    if device.type not in ("cpu", "cuda"):
        raise unknown_device
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: torch sees {torch.cuda.device_count()} GPUs here; use cpu")
    return device


def _load(run: Path, device: torch.device, dtype: DType | None) -> Model:
    low, high = _ends(run)
    settings = _settings(run)
    weights, named = _weights(run)
    try:
        levels, heads = (tuple(map(str, json.loads(named[key]))) for key in ("levels", "heads"))
        elements = tuple(int(z) for z in json.loads(named["elements"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run / WEIGHTS_FILE}: expected it to name its levels, heads and elements; found {sorted(named)}: made by "
            "an earlier version of mfbench? Delete the folder and run the experiment again"
        ) from error
    potential, stages = build(settings, _made_up(settings, levels, low, high, elements))
    if (dtype or settings.dtype) == "float64":
        potential = potential.double()
    try:
        if potential.heads != heads:
            raise UserError(f"heads: {potential.heads=} != {heads}")
        # Each tensor is cast to the type of the one that it replaces: atomic energies stay float64.
        potential.load_state_dict(weights)
    except (RuntimeError, UserError) as error:
        raise UserError(
            f"{run}: the weights are not those of the network that {SETTINGS_FILE} describes: "
            f"{' '.join(str(error).split()):.300}; were files of two runs mixed, or does the code of an arm or "
            "backbone differ from that which trained it?"
        ) from error
    potential = potential.to(device).eval().requires_grad_(False)
    return Model(run.resolve().name, settings, potential, elements, _trained_on(stages, levels, settings, high))


def _ends(run: Path) -> tuple[str, str]:
    """The low and the high level of a finished run."""
    if not run.is_dir():
        raise UserError(f"{run}: expected a run folder, as `mfbench run` makes them; there is no such folder")
    if not results.is_finished(run):
        if (run / SETTINGS_FILE).is_file():
            raise UserError(
                f"{run}: expected a finished run, got one without {results.METRICS_FILE}; the command that began it "
                "goes on where it was"
            )
        inside = sorted(path.parent.name for path in run.glob(f"*/{results.METRICS_FILE}"))
        more = f"; name one of those in it: {', '.join(inside[:5])}" if inside else ""
        raise UserError(f"{run}: expected a run folder with {results.METRICS_FILE}, found none{more}")
    table = results.read_metrics(run / results.METRICS_FILE)
    if not (run / WEIGHTS_FILE).is_file():
        remarks = [remark for remark in table["remark"].unique() if remark] if not table["n"].any() else []
        raise UserError(
            f"{run}: expected {WEIGHTS_FILE} in it, found none: "
            + (f"it could not be trained ({remarks[0]})" if remarks else "lost, or judged without being trained here")
        )
    by_role = dict(zip(table["role"], table["level"]))
    if not {"low", "high"} <= by_role.keys():
        raise UserError(f"{run / results.METRICS_FILE}: expected rows of the roles low and high, got {set(by_role)}")
    return by_role["low"], by_role["high"]


def _settings(run: Path) -> Experiment:
    path = run / SETTINGS_FILE
    content = results.read_json(path)
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: {where}: {first['msg']}; expected what `mfbench run` wrote: was it edited, or made by another "
            "version of mfbench?"
        ) from error


def _weights(run: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and what the file says of itself."""
    path = run / WEIGHTS_FILE
    try:
        with safe_open(path, "pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: expected weights as safetensors, got a damaged file ({error}); delete the folder and run the "
            "experiment again"
        ) from error


def _made_up(settings: Experiment, levels: tuple[str, ...], low: str, high: str, elements: tuple[int, ...]) -> Prepared:
    """Structures with all labels that an arm could ask for: its potential has one shape, whatever it is built on."""
    rng = np.random.default_rng(0)
    n = len(elements)
    structures = assemble(
        levels,
        [
            Frames(
                molecule="made up",
                numbers=np.asarray(elements, np.uint8),
                positions=np.arange(n)[:, None] * np.ones(3) + rng.normal(0, 0.1, (_MADE_UP, n, 3)),
                energies=np.zeros((_MADE_UP, len(levels))),
                forces=[np.zeros((_MADE_UP, n, 3)) for _ in levels],
                file="made up",
                rows=np.arange(_MADE_UP),
            )
        ],
    )
    train, validation, test = np.split(np.arange(_MADE_UP), 3)
    chosen = Selection(
        train_low=train,
        train_high=train,
        validation_low=validation,
        validation_high=validation,
        oracle=train,
        validation_oracle=validation,
        further=dict.fromkeys(settings.further, train),
        validation_further=dict.fromkeys(settings.further, validation),
    )
    none = np.zeros(0, np.int64)
    split = Split(test=test, unseen=none, validation=validation, high_pool=train, low_pool=train, oracle_pool=train)
    named = (low, *(name for name in levels if name in settings.further), high)
    return Prepared(structures, low, high, named, split, chosen, structures)


def _trained_on(stages: Sequence[Stage], levels: tuple[str, ...], settings: Experiment, high: str) -> str:
    """Which labels of which level, from high to low, for people."""
    kinds: dict[str, set[str]] = {}
    of_networks: set[str] = set()
    for stage in stages:
        for term in (term for source in stage.train for term in source.terms):
            for name in (term.level, term.minus):
                if name is not None:
                    wanted = {"energies": term.energy, "forces": term.forces and name == term.level}
                    kinds.setdefault(name, set()).update(kind for kind, there in wanted.items() if there)
                    fitted = stage.closed_form or (stage.optimisation.steps and stage.trained())
                    of_networks |= {name} if fitted else set()
    parts = []
    for name in (name for name in reversed(levels) if name in kinds):
        text = f"{' and '.join(sorted(kinds[name]))} of {name}"
        if name == high and "forces" in kinds[name] and settings.high_forces < 1:
            text += f" (forces of {settings.high_forces:.0%} of its structures)"
        parts.append(text if name in of_networks else f"{text} (atomic energies alone)")
    return ", ".join(parts) + (", with noise added to the labels" if any(settings.labels.noise.values()) else "")


# Files


def predict_file(
    model: Predictor,
    source: Path,
    out: Path,
    level: str | None = None,
    told: Callable[[int, int], Any] = lambda done, total: None,
) -> int:
    """Predict the structures of an extended XYZ file, and write them with the predictions to another.

    To each structure are added ``mfbench_energy`` (eV), ``mfbench_forces`` (eV/Angstrom) and ``mfbench_level``; by a
    committee ``mfbench_energy_std`` and ``mfbench_forces_std``, too. All else is kept, reference labels included.

    Args:
        told: called with the numbers of structures done and in all.

    Returns:
        How many structures there were.

    Raises:
        UserError: the file cannot be read or is cut short, ``out`` is the file itself; or see ``Predictor.predict``.
    """
    level = model.resolve(level)
    if not source.is_file():
        raise UserError(f"{source}: expected a file of structures (extended XYZ), found none")
    if out.exists() and out.samefile(source):
        raise UserError(f"{out}: expected another file than the one that is read; name a new one")
    total, done = _count(source), 0
    with results.replacing(out) as temporary:
        frames = _frames(source)
        while some := list(islice(frames, _AT_A_TIME)):
            try:
                _add(some, model.predict(some, level))
            except UserError as error:
                which = f", counted from {done}" if done else ""
                raise UserError(f"{source}{which}: {error}") from error
            ase.io.write(temporary, some, format="extxyz", append=done > 0)
            done += len(some)
            told(done, total)
        if done != total:
            raise UserError(f"{source}: expected {total} structures, could read {done}")
    return done


def _add(frames: Sequence[Atoms], found: Prediction) -> None:
    """Add predictions to frames."""
    for s, atoms in enumerate(frames):
        rows = found.atoms_of(s)
        atoms.info["mfbench_level"], atoms.info["mfbench_energy"] = found.level, float(found.energies[s])
        if found.forces is not None:
            atoms.arrays["mfbench_forces"] = found.forces[rows]
        # Of an earlier prediction that was a committee's, and that this one is not.
        atoms.info.pop("mfbench_energy_std", None)
        atoms.arrays.pop("mfbench_forces_std", None)
        if found.energies_std is not None and found.forces_std is not None:
            atoms.info["mfbench_energy_std"] = float(found.energies_std[s])
            atoms.arrays["mfbench_forces_std"] = found.forces_std[rows]


def _frames(source: Path) -> Iterator[Atoms]:
    try:
        yield from ase.io.iread(source, index=":", format="extxyz")
    except (OSError, ValueError, KeyError, IndexError, TypeError, AssertionError) as error:
        raise UserError(f"{source}: expected extended XYZ, which ASE cannot read: {error}") from error


def _count(source: Path) -> int:
    """How many structures the file holds; raises UserError where there are none, or it is no such file."""
    try:
        count = count_extxyz(source)
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: expected extended XYZ, which is text: {error}") from error
    if not count:
        raise UserError(f"{source}: expected structures, found none")
    return count
