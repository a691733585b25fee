"""Make the results that ship out of finished runs, which must be those of one committed state of the code.

mfbench demo --runs runs/demo
python benchmarks/reference.py demo --runs runs/demo
mfbench compare ani1x-tz --n-high 25 50 100 --seeds 0 1 2 3 4 --runs runs/arms
python benchmarks/reference.py arms --runs runs/arms
"""

import argparse
import json
from pathlib import Path

from mfbench import resources
from mfbench.files import replacing, write_json
from mfbench.results.folder import METRICS_FILE, PROVENANCE_FILE, load_runs
from mfbench.results.reference import REFERENCES
from mfbench.study.experiment import Experiment
from mfbench.study.grid import comparison, plan


def experiments(name: str) -> list[Experiment]:
    """The experiments whose results ship by this name."""
    return plan() if name == "demo" else comparison("ani1x-tz", None, [25, 50, 100], range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=REFERENCES)
    parser.add_argument("--runs", type=Path, required=True)
    args = parser.parse_args()
    names = {settings.name for settings in experiments(args.name)}
    table = load_runs(args.runs)
    table = table[table["run"].isin(names)]
    if missing := names - set(table["run"]):
        parser.error(f"{args.runs}: not all that {args.name} is, missing {sorted(missing)}")
    files = [file for name in sorted(names) if (file := args.runs / name / PROVENANCE_FILE).is_file()]
    found = [json.loads(file.read_text()) for file in files]
    for key in ("commit", "device", "versions", "threads"):
        if len({json.dumps(one[key], sort_keys=True) for one in found}) != 1:
            parser.error(f"{args.runs}: its runs differ in {key}: make them anew, in one go")
    if not found[0]["commit"] or found[0]["commit"].endswith("+changes"):
        parser.error(f"expected runs of a committed state of the code, got commit {found[0]['commit']!r}")
    last = max(found, key=lambda one: one["finished"])
    kept = {key: last[key] for key in ("commit", "device", "platform", "threads", "cores", "versions", "finished")}
    out = resources.references() / args.name
    write_json(out / PROVENANCE_FILE, kept)
    with replacing(out / METRICS_FILE) as temporary:
        table.to_parquet(temporary, index=False)
    print(f"{len(names)} runs of commit {kept['commit'][:10]} written to {out}")


if __name__ == "__main__":
    main()
