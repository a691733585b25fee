"""Do the intervals hold what they promise? Simulated studies with known truth, judged by mfbench's own statistics.

Each study has paired seeds and groups of test structures, errors that scatter by factors over seeds, groups and both,
and arms that share part of that scatter. Counted is how often 95 % intervals of an arm's error, of the ratio of two
arms and of the gap closed hold the truth, and how often equal arms are called different; the percentile bootstrap over
seeds and groups stands beside them. So are the slope of a learning curve, where two of them cross, which is how many
times fewer labels one arm needs, and how often the best of equal arms is called different from any of the others.

    python benchmarks/coverage.py --bootstrap --out benchmarks/results/coverage-DATE.json
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from common import parser, write
from tqdm import tqdm

from mfbench.results.statistics import LogErrors, compare, crossing, estimate, gap_closed, holm, slope

ARMS = {"SF-E": 2.0, "MF": 1.2, "MF, again": 1.2, "SF-EF": 1.0}  # errors over all seeds and groups


def study(
    rng: np.random.Generator,
    seeds: int,
    groups: int,
    of_seeds: float,
    of_groups: float,
    of_both: float,
    arms: Mapping[Any, float] = ARMS,
) -> dict[Any, np.ndarray]:
    """Mean absolute errors of each arm, (seeds, groups), scattering by log-normal factors, half of which arms share."""

    def factors(shape: tuple[int, ...], spread: float) -> dict[Any, np.ndarray]:
        shared = rng.normal(size=shape)
        return {arm: spread * np.sqrt(0.5) * (shared + rng.normal(size=shape)) for arm in arms}

    s, g, b = factors((seeds, 1), of_seeds), factors((1, groups), of_groups), factors((seeds, groups), of_both)
    mean = of_groups**2 / 2 + of_both**2 / 2  # of the factors over groups, which errors are averaged over
    return {arm: error * np.exp(s[arm] + g[arm] + b[arm] - mean) for arm, error in arms.items()}


def percentiles(rng: np.random.Generator, one: np.ndarray, other: np.ndarray, draws: int = 400) -> tuple[float, float]:
    """Percentile bootstrap over seeds and groups of the ratio of two arms' errors."""
    found = []
    for _ in range(draws):
        s, g = rng.integers(len(one), size=len(one)), rng.integers(one.shape[1], size=one.shape[1])
        found.append(np.log(one[s][:, g].mean(1)).mean() - np.log(other[s][:, g].mean(1)).mean())
    low, high = np.exp(np.percentile(found, [2.5, 97.5]))
    return float(low), float(high)


SIZES, SLOPE, REACHED = (25, 50, 100, 200), -0.5, 70.0  # one arm's curve, and where it reaches the other arm's error


def labels_covered(rng: np.random.Generator, studies: int, **shape: Any) -> dict[str, float]:
    """How often intervals of a slope and of a crossing hold the truth, and how often the best of equals is called so.

    One arm's errors fall as a power of the number of labels; another's is what they are at ``REACHED`` labels. A size
    has seeds and scatter of its own, half of which all of them share.
    """
    hits: dict[str, list[bool]] = {"slope": [], "fewer labels": [], "best of equals called different": []}
    for _ in tqdm(range(studies), desc=f"labels, {shape}", leave=False):
        truth = [*((size / REACHED) ** SLOPE for size in SIZES), 1.0]
        *curve, other = (LogErrors.of(one) for one in study(rng, **shape, arms=dict(enumerate(truth))).values())
        fall, at = slope(SIZES, curve), crossing(SIZES, [one - other for one in curve])
        hits["slope"].append(fall.low <= SLOPE <= fall.high)
        hits["fewer labels"].append(at.low <= REACHED <= at.high)
        equal = [LogErrors.of(one) for one in study(rng, **shape, arms=dict.fromkeys(range(6), 1.0)).values()]
        differ = holm([estimate(one - another).p for one, another in combinations(equal, 2)])
        best = int(np.argmin([one.values.mean() for one in equal]))
        pairs = combinations(range(len(equal)), 2)
        hits["best of equals called different"].append(any(d for d, pair in zip(differ, pairs) if best in pair))
    return {name: float(np.mean(one)) for name, one in hits.items()}


def covered(rng: np.random.Generator, studies: int, bootstrap: bool, **shape: Any) -> dict[str, Any]:
    """How often intervals hold the truth over so many studies of one shape."""
    hits: dict[str, list[bool]] = {"error": [], "ratio": [], "gap closed": [], "equal arms called different": []}
    of_bootstrap = []
    truth = 1 - np.log(ARMS["MF"] / ARMS["SF-EF"]) / np.log(ARMS["SF-E"] / ARMS["SF-EF"])
    for _ in tqdm(range(studies), desc=str(shape), leave=False):
        errors = study(rng, **shape)
        logs = {arm: LogErrors.of(one) for arm, one in errors.items()}
        error, ratio = estimate(logs["MF"]), estimate(logs["MF"] - logs["SF-E"])
        hits["error"].append(error.low <= ARMS["MF"] <= error.high)
        hits["ratio"].append(ratio.low <= ARMS["MF"] / ARMS["SF-E"] <= ratio.high)
        gap = gap_closed(logs["MF"], logs["SF-E"], logs["SF-EF"])
        if np.isfinite(gap.value):
            hits["gap closed"].append(gap.low <= truth <= gap.high)
        called = {one.arm: one.differs for one in compare(logs, "MF")}
        hits["equal arms called different"].append(called["MF, again"])
        if bootstrap:
            low, high = percentiles(rng, errors["MF"], errors["SF-E"])
            of_bootstrap.append(low <= ARMS["MF"] / ARMS["SF-E"] <= high)
    found: dict[str, Any] = {name: float(np.mean(one)) for name, one in hits.items()}
    found["gap defined"] = len(hits["gap closed"]) / studies
    if bootstrap:
        found["ratio, percentile bootstrap"] = float(np.mean(of_bootstrap))
    return {**shape, "studies": studies, **found}


SHAPES = [
    {"seeds": 5, "groups": 20, "of_seeds": 0.1, "of_groups": 0.5, "of_both": 0.3},
    {"seeds": 5, "groups": 20, "of_seeds": 0.3, "of_groups": 0.3, "of_both": 0.2},
    {"seeds": 5, "groups": 18, "of_seeds": 0.05, "of_groups": 0.8, "of_both": 0.3},
    {"seeds": 10, "groups": 20, "of_seeds": 0.1, "of_groups": 0.5, "of_both": 0.3},
    {"seeds": 5, "groups": 1, "of_seeds": 0.1, "of_groups": 0.0, "of_both": 0.0},
]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--studies", type=int, default=1000)
    options.add_argument("--bootstrap", action="store_true", help="the percentile bootstrap, too")
    args = options.parse_args()
    rng, another, rows = np.random.default_rng(0), np.random.default_rng(1), []
    for shape in SHAPES:
        of_labels = labels_covered(another, args.studies, **shape)
        rows.append({**covered(rng, args.studies, args.bootstrap, **shape), **of_labels})
        print({key: round(value, 3) for key, value in rows[-1].items()}, flush=True)
    write(args.out, rows=rows)


if __name__ == "__main__":
    main()
