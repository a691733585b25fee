"""Make the results that ship: train what is missing of them, then pack them. The same command goes on where it was.

python benchmarks/reference.py demo --runs runs/demo
python benchmarks/reference.py cases --runs runs/cases --jobs 2
python benchmarks/reference.py published --runs runs/published --data-folder DATA

All runs of one must be made by one committed state of the code. Of published data, nothing is packed frame by frame:
metrics, histories and settings alone.
"""

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from mfbench import resources
from mfbench.results.folder import RunFolder, is_finished
from mfbench.results.reference import one_origin, pack
from mfbench.study.experiment import Experiment
from mfbench.study.grid import CASES, comparison, plan, run_all

MOST_BYTES = 15 << 20  # of all results that ship

SHOWN = 50  # high-level structures of the runs whose predictions ship


def cases() -> Iterator[Experiment]:
    """All arms on all cases' mini data, seeds first, so that what is complete grows evenly."""
    for seed in range(5):
        for case in CASES:
            yield from comparison(case, None, [25, 50, 100], [seed])


def published() -> Iterator[Experiment]:
    """All arms on published data of small molecules, and three on those of a larger one."""
    for seed in range(3):
        for molecule in ("ethanol", "malonaldehyde"):
            yield from comparison("rmd17-cc", None, [50, 200, 900], [seed], data=molecule)
        yield from comparison("rmd17-cc", ["SF-E", "MF", "SF-EF"], [50], [seed], data="aspirin")


EXPERIMENTS = {"demo": plan, "cases": cases, "published": published}


def predicted(experiments: Sequence[Experiment]) -> list[str]:
    """Names of those whose predictions ship: one seed an arm, of the data that ship themselves."""
    return [
        one.name
        for one in experiments
        if one.seed == 0 and one.n_high in (0, SHOWN) and not one.declared.choice(one.data).published
    ]


def complete(experiments: Sequence[Experiment], finished: Collection[str]) -> list[Experiment]:
    """Those of each case, size and seed of which all arms are finished; of arms that have no size, each by itself."""

    def group(one: Experiment) -> tuple[str | int, ...]:
        return (one.case, one.data, one.n_high, one.seed, "" if one.n_high else one.arm)

    lacking = {group(one) for one in experiments if one.name not in finished}
    return [one for one in experiments if group(one) not in lacking]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--runs", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that train (1)")
    parser.add_argument("--device", default="auto", help="as for `mfbench run`")
    parser.add_argument("--data-folder", type=Path, metavar="FOLDER", help="where the published files are")
    parser.add_argument(
        "--partly", action="store_true", help="train nothing, and pack the cases, sizes and seeds that are complete"
    )
    args = parser.parse_args()
    wanted = list(EXPERIMENTS[args.name]())
    if not args.partly:
        run_all(wanted, args.runs, args.jobs, device=args.device, data_folder=args.data_folder)
    finished = {one.name for one in wanted if is_finished(args.runs / one.name)}
    chosen = complete(wanted, finished)
    packed = {one.name for one in chosen}
    for one in wanted:
        if one.name not in packed:
            print(f"left out: {one.name}" + (", as others of its size and seed are missing" * (one.name in finished)))
    if not chosen:
        sys.exit(f"{args.runs}: nothing of {args.name} is complete")
    runs = [RunFolder(args.runs / one.name) for one in sorted(chosen, key=lambda one: one.name)]
    origin = one_origin(runs)
    out = resources.references() / args.name
    pack(runs, out, origin, predicted(chosen))
    size = sum(path.stat().st_size for path in resources.references().rglob("*") if path.is_file())
    print(f"{len(runs)} of {len(wanted)} runs of commit {origin['commit'][:10]} written to {out}")
    print(f"all results that ship: {size / 2**20:.1f} MiB")
    if size > MOST_BYTES:
        sys.exit(f"expected at most {MOST_BYTES / 2**20:.0f} MiB: leave some out")


if __name__ == "__main__":
    main()
