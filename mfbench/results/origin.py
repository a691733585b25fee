"""Where results came from: device, date, commit and versions, as their provenance files tell."""

from collections.abc import Iterable
from pathlib import Path

from mfbench.results.folder import RunFolder


def origin(provenance: Iterable[Path]) -> dict[str, str]:
    """Device, date, commit and versions of some runs, from their ``provenance.json``: what differs is listed."""
    found: dict[str, set[str]] = {}
    for file in provenance:
        content = RunFolder(file.parent).provenance()
        versions = content.get("versions", {})
        for key, value in (
            ("device", content.get("device", "")),
            ("date", str(content.get("finished", ""))[:10]),
            ("commit", content.get("commit", "")),
            ("platform", content.get("platform", "")),
            ("threads", str(content.get("threads", ""))),
            ("versions", ", ".join(f"{name} {versions[name]}" for name in sorted(versions))),
        ):
            if value:
                found.setdefault(key, set()).add(value)
    return {key: "; ".join(sorted(values)) for key, values in found.items()}
