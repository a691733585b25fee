"""Where results came from: device, date, commit and versions, as their runs tell."""

from collections.abc import Iterable, Mapping
from typing import Any


def origin(provenances: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Device, date, commit and versions of some runs (``RunFolder.provenance``): what differs is listed."""
    found: dict[str, set[str]] = {}
    for content in provenances:
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
