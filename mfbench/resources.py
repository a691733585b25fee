"""Where the shipped folders are: inside the installed package first, else beside it in the checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def manifests() -> Path:
    """Folder of the dataset manifests (one YAML file each)."""
    return _shipped("data_manifests")


def cases() -> Path:
    """Folder of the test cases (one YAML file each)."""
    return manifests() / "cases"


def dashboards() -> Path:
    """Folder of the dashboard pages."""
    return _shipped("dashboards")


def notebooks() -> Path:
    """Folder of the tutorials."""
    return _shipped("notebooks")


def mini_data() -> Path:
    """Folder of the small quantum-chemical data computed for mfbench."""
    return _PACKAGE / "data" / "mini"


def references() -> Path:
    """Folder of this project's own results, a folder each (see ``report.REFERENCES``)."""
    return _PACKAGE / "data" / "reference"
