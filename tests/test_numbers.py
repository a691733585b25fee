"""Two short runs keep the values that they had: a change of structure changes no number.

Bit for bit is compared on one machine by ``benchmarks/same_numbers.py``; these values hold on others, too.
"""

from pathlib import Path

import pytest

import mfbench
from mfbench import resources

# RMSE at the high level on the test part, eV and eV/Angstrom, after 20 steps in float64.
VALUES = {
    ("rmd17-cc", "MF"): {
        "energy": 0.2623156279151945,
        "energy_relative": 0.25225762065867413,
        "force": 1.5943116944120617,
    },
    ("ani1x-tz", "MF+"): {
        "energy": 1.2175276011544145,
        "energy_relative": 0.38253102533831723,
        "force": 1.8722264993145452,
    },
}
NAMES = {
    "rmd17-cc": "rmd17-cc-mini-MF-hipnn-ts-n25-s0-b962f64b91",
    "ani1x-tz": "ani1x-tz-mini-MF+-hipnn-ts-n25-s0-300ba60717",
}


@pytest.mark.parametrize(("case", "arm"), VALUES)
def test_short_runs_keep_their_values(case: str, arm: str, tmp_path: Path) -> None:
    settings = mfbench.experiment(case, arm, n_high=25, dtype="float64", optimisation={"steps": 20})
    assert settings.name == NAMES[case]  # finished runs of earlier versions stay valid
    table = mfbench.load_runs(mfbench.run(settings, tmp_path, device="cpu").parent)
    chosen = (table["role"] == "high") & (table["part"] == "test") & (table["metric"] == "rmse")
    values = table[chosen].set_index("quantity")["value"]
    for quantity, expected in VALUES[case, arm].items():
        assert values[quantity] == pytest.approx(expected, rel=1e-5), quantity


def test_a_name_reads_no_file(tmp_path: Path) -> None:
    """What was meant when an experiment was made is in the record, whatever becomes of the files since."""
    text = (resources.cases() / "rmd17-cc.yaml").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("name: rmd17-cc", "name: mine"))
    settings = mfbench.experiment(file, "MF", n_high=25)
    before = settings.name, settings.levels, settings.recipe, settings.variant
    file.unlink()
    again = mfbench.Experiment.model_validate_json(settings.model_dump_json())
    assert again == settings
    assert (again.name, again.levels, again.recipe, again.variant) == before
