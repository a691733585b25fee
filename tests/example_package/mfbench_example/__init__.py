"""An example of what can be added to mfbench. Importing this loads no torch, so that showing results does not."""

from pathlib import Path

CASE = Path(__file__).parent / "hydrides.yaml"
