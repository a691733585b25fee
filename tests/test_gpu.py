"""The same numbers on a GPU; skipped visibly where there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mfbench.learning.device import DeviceStructures
from mfbench.learning.problem import Training
from mfbench.learning.sources import draw
from mfbench.learning.step import Learner, train_step
from mfbench.results.folder import is_finished
from mfbench.results.predictions import Predictions, read_arrays
from mfbench.study.build import build
from mfbench.study.experiment import experiment
from mfbench.study.prepare import prepare
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


@pytest.mark.parametrize("backbone", ["hipnn-ts", "painn"])
def test_a_step_never_waits_for_the_gpu(backbone: str) -> None:
    settings = experiment("ani1x-tz", "MF", backbone_name=backbone)
    prepared, cuda = prepare(settings), torch.device("cuda")
    potential, (stage,) = build(settings, prepared)
    potential.to(cuda)
    assert isinstance(stage, Training)
    data, learner = DeviceStructures(prepared.training, cuda), Learner(stage, cuda)
    for step in range(3):
        drawn = [draw(source, 16, 0, k, step) for k, source in enumerate(stage.lesson.train)]
        torch.cuda.set_sync_debug_mode("error" if step else "default")  # the first one loads kernels
        try:
            train_step(learner, data.blocks(drawn), 1e-3, step)
        finally:
            torch.cuda.set_sync_debug_mode("default")
