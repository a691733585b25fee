"""The same numbers on a GPU; skipped visibly where there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mfbench.data import datasets, store
from mfbench.data.manifest import manifest
from mfbench.learning.device import DeviceStructures
from mfbench.learning.sources import Source, Term
from mfbench.results.folder import is_finished
from mfbench.results.predictions import Predictions, read_arrays
from mfbench.study.experiment import experiment
from mfbench.study.run import run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")


@pytest.mark.parametrize("backbone", ["hipnn-ts", "painn"])
@pytest.mark.parametrize("arm", ["SF-E", "MF", "SF-EF", "SF-low"])
def test_training_agrees_with_the_cpu(arm: str, backbone: str, tmp_path: Path) -> None:
    settings = experiment(
        "ani1x-tz", arm, backbone_name=backbone, dtype="float64", optimisation={"steps": 20, "validations": 4}
    )
    predicted = {}
    for device in ("cpu", "cuda"):
        folder = run(settings, tmp_path / device, device)
        assert is_finished(folder)
        predicted[device] = read_arrays(folder / "predictions.h5", Predictions)
    for name in ("energy_predicted", "force_predicted"):
        np.testing.assert_allclose(getattr(predicted["cuda"], name), getattr(predicted["cpu"], name), atol=1e-5)


def test_straight_to_the_gpu(tmp_path: Path) -> None:
    """Atoms that went from a converted file to the GPU are those that went by way of the host."""
    declared = manifest("mini-ani1x")
    path = datasets.convert(declared, datasets.raw_files(declared), tmp_path / "x.h5")
    low, high = "wb97x/6-31g*", "ccsd(t)*/cbs"
    source = Source(np.arange(0, 864, 5), (Term(low, True, True), Term(high)))
    with store.Reader(path, (low, high)) as reader:
        direct = DeviceStructures(reader.outline, torch.device("cuda"), reader=reader)
        usual = DeviceStructures(reader.read(), torch.device("cuda"))
    for one, other in zip(direct.blocks([source]), usual.blocks([source]), strict=True):
        assert one.positions.is_cuda
        for name in ("numbers", "positions", "energies"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        assert all(torch.equal(one.forces[k], other.forces[k]) for k in (0,))
