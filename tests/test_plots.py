"""Plots show the right numbers, names and colours, and say what is missing."""

import subprocess
import sys

import holoviews as hv
import numpy as np
import pandas as pd
import pytest
from bokeh.models import HoverTool, Legend, LogScale, Title
from tables import NO_FORCES, NO_TOTAL_ENERGY, error, results_table

from mfbench.errors import UserError
from mfbench.results.rows import HORIZONTAL, setups_of, with_setup
from mfbench.results.schema import EXTERNAL
from mfbench.results.summary import summary
from mfbench.show import plots
from mfbench.show.styles import ARMS, arm_order, arm_style
from mfbench.show.words import counts, integers, number

KCAL_PER_EV = 23.0605  # kcal/mol in an eV, from a handbook


def elements(curve: hv.Overlay) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is drawn: lines from (x, value) to (x_end, end), and markers."""
    lines, marks = curve
    assert (type(lines), type(marks)) == (hv.Segments, hv.Scatter)
    return lines.dframe(), marks.dframe()


def means(curve: hv.Overlay, series: str) -> pd.DataFrame:
    """The markers of a series that are drawn whole: not single seeds, nor what only hovers."""
    marks = elements(curve)[1]
    return marks[(marks["series"] == series) & (marks["alpha"] == 1) & marks["value"].notna()]


def points(curve: hv.Overlay, series: str) -> dict[float, float]:
    found = means(curve, series)
    return dict(zip(found["x"], found["value"]))


def pieces(curve: hv.Overlay, series: str) -> pd.DataFrame:
    """The lines of a series, without bars."""
    lines = elements(curve)[0]
    return lines[(lines["series"] == series) & (lines["alpha"] == 1)]


def singles(curve: hv.Overlay) -> pd.DataFrame:
    marks = elements(curve)[1]
    return marks[(marks["alpha"] == 0) & (marks["fill"] > 0)]


def figure(element: hv.Element):
    return hv.render(element, backend="bokeh")


def legend(element: hv.Element) -> Legend:
    return figure(element).select_one({"type": Legend})


def footnotes(element: hv.Element) -> str:
    return " ".join(t.text.replace("\n", " ") for t in figure(element).below if isinstance(t, Title))


def test_colours_are_okabe_ito_and_no_two_arms_look_alike():
    assert {a: ARMS[a].color for a in ("SF-E", "MF", "SF-EF")} == {
        "SF-E": "#D55E00",
        "MF": "#0072B2",
        "SF-EF": "#009E73",
    }
    assert {"MF+", "delta", "transfer", "embedding", "SF-low"} < set(ARMS)
    assert len({s.color for s in ARMS.values()}) == len(ARMS)
    drawn = [s.marker for arm, s in ARMS.items() if arm not in HORIZONTAL]
    assert len(set(drawn)) == len(drawn)


def luminance(color: str) -> float:
    """Relative luminance of a colour, by the definition of the web's guidelines for contrast."""
    parts = (int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("arm", [*ARMS, "our-arm", "another", "a third"])
@pytest.mark.parametrize("page", ["#ffffff", "#121212"], ids=["light", "dark"])
def test_every_arm_is_seen_on_light_and_on_dark_pages(arm, page):
    low, high = sorted(luminance(color) + 0.05 for color in (arm_style(arm).color, page))
    assert high / low > 2.1


def test_an_arm_from_elsewhere_has_a_style_of_its_own():
    foreign = arm_style("our-arm")
    assert foreign == arm_style("our-arm")
    assert foreign.color not in {s.color for s in ARMS.values()}
    assert arm_order(["zeta", "SF-EF", "our-arm", "MF", "SF-E"]) == [
        "SF-E",
        "MF",
        "SF-EF",
        "our-arm",
        "zeta",
    ]


@pytest.mark.parametrize("arm", ["SF-E", "MF", "SF-EF"])
@pytest.mark.parametrize(("quantity", "metric", "part"), [("energy", "mae", "test"), ("force", "rmse", "unseen")])
def test_a_curve_is_the_mean_over_seeds_in_the_unit_shown(arm, quantity, metric, part):
    table = results_table(seeds=(0, 1, 2))
    curve = plots.learning_curve(table, "ani1x-tz", quantity, metric, "kcal/mol", part)
    # Seed 1 is the middle one on a log axis.
    expected = {n: error(arm, quantity, metric, n, seed=1, part=part) * KCAL_PER_EV for n in (50, 150)}
    assert points(curve, arm) == pytest.approx(expected, rel=1e-4)
    (line,) = pieces(curve, arm).to_dict("records")
    assert [line["x"], line["x_end"]] == [50, 150]
    assert [line["value"], line["end"]] == pytest.approx(list(expected.values()), rel=1e-4)
    marks = means(curve, arm)
    assert {line["color"], *marks["color"]} == {ARMS[arm].color}
    assert set(marks["marker"]) == {ARMS[arm].marker}


def test_single_seeds_are_small_points_when_there_are_several():
    found = singles(plots.learning_curve(results_table(seeds=(0, 1, 2)), "rmd17-cc", "force"))
    assert set(found["series"]) == {"SF-E", "MF", "SF-EF"}
    mf = found[found["series"] == "MF"]
    assert set(mf["color"]) == {ARMS["MF"].color}
    expected = [error("MF", "force", "mae", n, seed) * KCAL_PER_EV for n in (50, 150) for seed in (0, 1, 2)]
    assert sorted(mf["value"]) == pytest.approx(sorted(expected), rel=1e-4)
    assert singles(plots.learning_curve(results_table(seeds=(0,)), "rmd17-cc", "force")).empty


def bars(curve: hv.Overlay, series: str) -> pd.DataFrame:
    lines = elements(curve)[0]
    return lines[(lines["series"] == series) & (lines["alpha"] < 1)]


def test_a_bar_is_the_range_of_few_seeds_and_the_interval_from_five_on():
    few = plots.learning_curve(results_table(seeds=(0, 1, 2)), "rmd17-cc", "force")
    of_three = [error("MF", "force", "mae", 50, seed) * KCAL_PER_EV for seed in (0, 2)]
    assert bars(few, "MF").iloc[0][["value", "end"]].tolist() == pytest.approx(of_three, rel=1e-4)
    assert "Bar: range of the seeds." in footnotes(few)
    table = results_table(cases=["rmd17-cc"], seeds=range(5))
    many = plots.learning_curve(table, "rmd17-cc", "force")
    found = summary(table, "rmd17-cc").query("arm == 'MF' and quantity == 'force' and n_high == 50").iloc[0]
    interval = [found["low"] * KCAL_PER_EV, found["high"] * KCAL_PER_EV]
    assert bars(many, "MF").iloc[0][["value", "end"]].tolist() == pytest.approx(interval, rel=1e-4)
    assert "Bar: 95 % interval" in footnotes(many)
    assert bars(plots.learning_curve(results_table(), "rmd17-cc", "force"), "MF").empty


def test_the_number_of_seeds_is_said():
    assert "geometric mean of 3 seeds" in footnotes(
        plots.learning_curve(results_table(seeds=(0, 1, 2)), "rmd17-cc", "force")
    )
    assert "One seed" in footnotes(plots.learning_curve(results_table(), "rmd17-cc", "force"))


def test_hover_tells_n_seeds_and_value():
    curve = plots.learning_curve(results_table(seeds=(0, 1, 2)), "rmd17-cc", "force")
    row = means(curve, "MF").set_index("x").loc[50]
    middle, least, most = (error("MF", "force", "mae", 50, seed) * KCAL_PER_EV for seed in (1, 0, 2))
    assert (row["n"], row["told"]) == (5040, "3")
    assert (row["shown"], row["range"]) == (f"{middle:.2f}", f"{least:.2f} to {most:.2f} (range)")
    one = singles(curve).iloc[0]
    assert (one["range"], one["told"]) == ("this seed alone", "0 (split 0)")
    # As bokeh gets them: HoloViews rewrites the names of columns on the way.
    (hover,) = figure(curve).select({"type": HoverTool})
    assert dict(hover.tooltips) == {
        "Arm": "@{series}",
        "High-level structures": "@{x}{0,0.[0]}",
        "Low-level structures": "@{n_low}{0,0}",
        "Force component MAE (kcal/mol/Å)": "@{shown}",
        "Over seeds": "@{range}",
        "Seeds": "@{told}",
        "n averaged over": "@{n}{0,0}",
    }


def test_sf_low_is_a_dashed_horizontal_line_across_the_frame():
    curve = plots.learning_curve(results_table(), "ani1x-tz", "force")
    (line,) = pieces(curve, "SF-low").to_dict("records")
    assert [line["value"], line["end"]] == pytest.approx([0.17 * KCAL_PER_EV] * 2, rel=1e-4)
    shown = figure(curve).x_range
    assert [line["x"], line["x_end"]] == pytest.approx([shown.start, shown.end])
    assert (line["dash"], line["color"]) == ("dashed", ARMS["SF-low"].color)
    assert means(curve, "SF-low").empty


def test_sf_low_has_relative_energies_but_no_total_energy():
    relative = plots.learning_curve(results_table(), "ani1x-tz", "energy_relative")
    assert pieces(relative, "SF-low")["value"].iloc[0] == pytest.approx(0.11 * KCAL_PER_EV, rel=1e-4)
    energy = plots.learning_curve(results_table(), "ani1x-tz", "energy")
    assert pieces(energy, "SF-low").empty
    assert NO_TOTAL_ENERGY in footnotes(energy)


def test_a_legend_holds_every_arm_however_many():
    arms = list(ARMS)
    one = results_table(arms=["MF"], cases=["rmd17-cc"], seeds=(0, 1, 2))
    many = pd.concat([one.assign(arm=arm, run=one["run"] + arm) for arm in arms])
    items = legend(plots.learning_curve(many, "rmd17-cc", "force")).items
    assert sorted(item.label.value for item in items) == sorted(arms)
    colors = {item.label.value: item.renderers[0].data_source.data["color"][item.index] for item in items}
    assert colors == {arm: ARMS[arm].color for arm in arms}


def test_missing_arms_stand_in_the_legend_and_are_explained():
    curve = plots.learning_curve(results_table(), "ani1ccx", "force")
    assert [item.label.value for item in legend(curve).items] == ["SF-low", "SF-E", "MF", "SF-EF (n = 0)"]
    assert f"SF-EF (n = 0): {NO_FORCES}" in footnotes(curve)
    assert "n = 0" not in footnotes(plots.learning_curve(results_table(), "rmd17-cc", "force"))


@pytest.mark.parametrize(
    ("quantity", "metric", "system", "label"),
    [
        ("energy", "mae", "kcal/mol", "Energy MAE (kcal/mol)"),
        ("energy_per_atom", "rmse", "kcal/mol", "Energy per atom RMSE (meV/atom)"),
        ("energy_relative", "mae", "meV", "Relative energy MAE (meV)"),
        ("force", "rmse", "meV", "Force component RMSE (meV/Å)"),
    ],
)
def test_axes_are_logarithmic_and_labelled_with_quantity_metric_and_unit(quantity, metric, system, label):
    shown = figure(plots.learning_curve(results_table(), "ani1ccx", quantity, metric, system))
    assert shown.yaxis[0].axis_label == label
    assert shown.xaxis[0].axis_label == "High-level structures"
    assert isinstance(shown.x_scale, LogScale)
    assert isinstance(shown.y_scale, LogScale)


def test_unit_systems_differ_by_the_conversion_factor():
    kcal, mev = (plots.learning_curve(results_table(), "rmd17-cc", "force", system=s) for s in ("kcal/mol", "meV"))
    ratio = means(mev, "MF")["value"].to_numpy() / means(kcal, "MF")["value"].to_numpy()
    assert ratio == pytest.approx(1000 / KCAL_PER_EV, rel=1e-4)


def test_ticks_are_the_sizes_used_and_plain_numbers():
    shown = figure(plots.learning_curve(results_table(sizes=(40, 400, 4000)), "ani1x-tz", "energy"))
    x, y = shown.xaxis[0], shown.yaxis[0]
    assert [x.major_label_overrides[t] for t in x.ticker.ticks] == ["40", "400", "4,000"]
    assert len(y.ticker.ticks) >= 3
    assert all(float(y.major_label_overrides[t].replace(",", "")) == pytest.approx(t) for t in y.ticker.ticks)


def test_all_text_is_legible_from_the_back_of_the_room():
    shown = figure(plots.learning_curve(results_table(seeds=(0, 1)), "ani1ccx", "energy"))
    sizes = [t.text_font_size for t in shown.select({"type": Title})]
    sizes += [legend.label_text_font_size for legend in shown.select({"type": Legend})]
    for axis in shown.axis:
        sizes += [axis.axis_label_text_font_size, axis.major_label_text_font_size]
    assert len(sizes) == 8  # title, levels, footnotes, legend, two a axis
    assert all(float(size.removesuffix("pt")) >= 14 for size in sizes), sizes


def test_levels_have_their_pretty_labels():
    shown = figure(plots.learning_curve(results_table(), "rmd17-cc", "energy"))
    assert [t.text for t in shown.above if isinstance(t, Title)] == ["PBE/def2-SVP → CCSD/cc-pVDZ"]
    assert shown.title.text == "rmd17-cc"


def test_rendering_twice_does_not_double_the_text():
    renderer = hv.renderer("bokeh")
    plot = renderer.get_plot(plots.learning_curve(results_table(), "ani1ccx", "energy"))
    before = len(plot.state.above), len(plot.state.below)
    plot.refresh()
    assert (len(plot.state.above), len(plot.state.below)) == before


def test_all_points_lie_inside_the_frame():
    for case in ("ani1ccx", "rmd17-cc"):
        for quantity in ("energy_relative", "force"):
            curve = plots.learning_curve(results_table(seeds=(0, 1, 2)), case, quantity)
            shown = figure(curve)
            lines, marks = elements(curve)
            values = pd.concat([lines["value"], lines["end"], marks["value"]]).dropna()
            assert shown.y_range.start < values.min() <= values.max() < shown.y_range.end


def test_a_single_size_and_sf_low_alone_can_be_drawn():
    figure(plots.learning_curve(results_table(arms=["MF"], sizes=(50,)), "ani1x-tz", "energy"))
    figure(plots.learning_curve(results_table(arms=["SF-low"]), "ani1x-tz", "force"))


def test_of_several_low_level_sizes_the_largest_is_drawn():
    table = results_table(cases=["rmd17-cc"])
    fewer = table[table["arm"] == "MF"].assign(n_low=100, value=9.0, run=lambda t: t["run"] + "-fewer")
    curve = plots.learning_curve(pd.concat([table, fewer]), "rmd17-cc", "energy")
    assert points(curve, "MF")[50] == pytest.approx(error("MF", "energy", "mae", 50) * KCAL_PER_EV, rel=1e-4)


def test_a_part_without_labels_is_an_element_that_says_so():
    message = plots.learning_curve(results_table(), "rmd17-cc", "energy", part="unseen")
    assert isinstance(message, hv.Text)
    said = " ".join(message.data[2].split())
    assert "No energy labels at CCSD/cc-pVDZ for molecules never trained on (n = 0)" in said
    figure(message)


def test_panel_is_energy_beside_force():
    panel = plots.case_panel(results_table(), "ani1x-tz", energy="energy_relative")
    labels = [figure(element).yaxis[0].axis_label for element in panel]
    assert labels == ["Relative energy MAE (kcal/mol)", "Force component MAE (kcal/mol/Å)"]
    figure(panel)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case": "ani1"}, r"unknown case in these results 'ani1'.*ani1ccx.*did you mean"),
        ({"quantity": "forces"}, r"unknown quantity 'forces'.*did you mean 'force'"),
        ({"metric": "max"}, r"unknown metric 'max'.*mae, rmse"),
        ({"part": "train"}, r"unknown part 'train'.*test, unseen"),
        ({"system": "eV"}, r"unknown unit system 'eV'.*kcal/mol, meV"),
    ],
)
def test_unknown_names_are_answered_with_what_exists(change, message):
    arguments = {"case": "ani1ccx", "quantity": "force"} | change
    with pytest.raises(UserError, match=message):
        plots.learning_curve(results_table(), **arguments)


def test_an_empty_table_is_answered_with_what_to_do():
    with pytest.raises(UserError, match="mfbench demo"):
        plots.learning_curve(results_table(cases=[]), "ani1ccx", "force")


def test_backbones_are_never_drawn_as_one_curve():
    both = pd.concat([results_table(), results_table(backbone="painn")])
    with pytest.raises(UserError, match=r"with_setup"):
        plots.learning_curve(both, "ani1ccx", "energy")
    assert setups_of(both) == [("mini", "hipnn-ts", "demo"), ("mini", "painn", "demo")]
    one = with_setup(both, ("mini", "painn", "demo"))
    assert set(one["backbone"]) == {"painn"}
    plots.learning_curve(one, "ani1ccx", "energy")


def other_code(**settings):
    """Rows of another code's predictions: SF-E's law under another name."""
    rows = results_table(arms=["SF-E"], backbone=EXTERNAL, **settings)
    return rows.assign(arm="Other", preset=EXTERNAL, steps=0, seconds=0.0, device="")


def test_another_code_stands_in_the_curves_of_every_backbone():
    both = pd.concat([results_table(), results_table(backbone="painn"), other_code()])
    assert setups_of(both) == [("mini", "hipnn-ts", "demo"), ("mini", "painn", "demo")]
    for settings in setups_of(both):
        one = with_setup(both, settings)
        assert set(one["backbone"]) == {settings[1], EXTERNAL}
        curve = plots.learning_curve(one, "ani1x-tz", "energy")
        values = points(curve, "Other")
        assert values == pytest.approx(
            {n: error("SF-E", "energy", "mae", n) * KCAL_PER_EV for n in (50, 150)}, rel=1e-5
        )


def test_another_code_has_settings_of_its_own_where_nothing_else_is():
    alone = other_code(cases=["ani1x-tz"])
    external = ("mini", EXTERNAL, EXTERNAL)
    assert setups_of(alone) == [external]
    assert len(with_setup(alone, external)) == len(alone)
    elsewhere = pd.concat([results_table().assign(data="full"), alone])
    assert setups_of(elsewhere) == [("full", "hipnn-ts", "demo"), external]
    assert "Other" not in set(with_setup(elsewhere, ("full", "hipnn-ts", "demo"))["arm"])


def test_plots_leave_the_table_as_it_was():
    table = results_table(seeds=(0, 1))
    before = table.copy()
    for element in plots.case_panel(table, "ani1ccx"):
        figure(element)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.4, 6, [0.5, 1, 2, 5]),
        (0.09, 120, [0.1, 1, 10, 100]),
        (1.1, 3.2, [1.5, 2, 3]),
        (1.0, 1.5, [1, 1.2, 1.4]),
    ],
)
def test_ticks_of_a_log_axis(low, high, expected):
    ticks = plots.log_ticks(low, high)
    assert ticks == sorted(ticks)
    assert all(low <= tick <= high for tick in ticks)
    assert set(expected) <= set(ticks)


def test_labels_that_would_touch_are_left_out():
    assert plots.spread([50, 150], span=2.0) == [50, 150]
    assert plots.spread([100, 101, 500, 1000], span=3.0) == [101, 500, 1000]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01234, "0.0123"),
        (0.9996, "1.000"),
        (1.2, "1.20"),
        (16.94, "16.9"),
        (1234.0, "1,230"),
        (0.0, "0"),
        (np.nan, "–"),
    ],
)
def test_numbers_for_people(value, text):
    assert number(value) == text


def test_integers_and_counts_for_people():
    assert integers([0, 1, 2, 2]) == "0–2"
    assert integers([3, 0, 7]) == "0, 3, 7"
    assert counts([1200, 1200]) == "1,200"
    assert counts([1200, 900]) == "900–1,200"


def test_showing_results_never_loads_torch():
    code = "import sys, mfbench.show.plots, mfbench.show.page; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
