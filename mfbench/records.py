"""Records that are read from YAML: frozen, schema-checked, unknown keys refused, no code."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mfbench.errors import UserError


class Record(BaseModel):
    """Base of everything that is read from YAML: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Dumper(yaml.SafeDumper):
    """Safe YAML that the loader below takes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_LARGEST = 1 << 63  # of an integer: no count, size or seed is larger, and text of such a one takes minutes to make


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases, which could blow a small file up to any size; and nothing that is read as another
    thing than it looks: no key twice, no control characters, no integers without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: expected each key once, got {twice[0]!r:.40} twice")
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and any(not one.isprintable() and one not in "\n\t" for one in value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: expected printable text, got {value!r:.40}")
        return value

    def construct_yaml_int(self, node: Any) -> int:
        found = super().construct_yaml_int(node)
        if abs(found) >= _LARGEST:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: expected an integer below 2**63, got a larger one")
        return found


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read_yaml[R: Record](path: Path, kind: type[R]) -> R:
    """Read one YAML file as a record; raises UserError naming file, field and what was expected."""
    return as_record(_content(path), kind, path)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read one YAML file that holds a mapping, unchecked; raises UserError where it does not."""
    content = _content(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: top level: expected a mapping, got {content!r:.80}")
    return content


def as_record[R: Record](content: Any, kind: type[R], origin: Path) -> R:
    """Check what was read from a file; raises UserError naming file, field and what was expected."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UserError(f"{origin}: {where}: {first['msg']}; got {first['input']!r:.80}{more}") from error


def _content(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def write_yaml(path: Path, record: Record) -> None:
    """Write a record as YAML; what has its default is left out."""
    content = record.model_dump(mode="json", exclude_defaults=True)
    path.write_text(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110), "utf-8")
