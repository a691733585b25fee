"""Make the shipped reference results out of a finished ``mfbench demo``.

mfbench demo --runs runs/reference
python benchmarks/reference.py --runs runs/reference
"""

import argparse
import json
from pathlib import Path

from mfbench import resources, results
from mfbench.demo import plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=resources.reference())
    args = parser.parse_args()
    table = results.load_runs(args.runs)
    missing = {settings.name for settings in plan()} - set(table["run"])
    if missing:
        parser.error(f"{args.runs}: not a whole demo run, missing {sorted(missing)}")
    files = sorted(args.runs.glob(f"*/{results.PROVENANCE_FILE}"))
    found = [json.loads(file.read_text()) for file in files]
    for key in ("commit", "device", "versions", "threads"):
        if len({json.dumps(one[key], sort_keys=True) for one in found}) != 1:
            parser.error(f"{args.runs}: its runs differ in {key}: make them anew, in one go")
    if not found[0]["commit"] or found[0]["commit"].endswith("+changes"):
        parser.error(f"expected runs of a committed state of the code, got commit {found[0]['commit']!r}")
    last = max(found, key=lambda one: one["finished"])
    kept = {key: last[key] for key in ("commit", "device", "platform", "threads", "cores", "versions", "finished")}
    results.write_json(args.out / results.PROVENANCE_FILE, kept)
    with results.replacing(args.out / results.METRICS_FILE) as temporary:
        table.to_parquet(temporary, index=False)
    print(f"{len(set(table['run']))} runs of commit {kept['commit'][:10]} written to {args.out}")


if __name__ == "__main__":
    main()
