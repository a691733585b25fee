"""Records that are read from YAML: frozen, schema-checked, unknown keys refused, no code."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

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
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UserError(f"{origin}: {in_words(error, kind, content)}{more}") from error


def in_words(error: ValidationError, kind: type[BaseModel] | None = None, content: Any = None, at: str = "") -> str:
    """The first thing that is wrong with what was read: where, what was expected, what it is.

    Args:
        kind: of record; of an unknown key, it tells which one may be meant.
        content: what was checked.
        at: what stands before each place.
    """
    first = error.errors()[0]
    loc, given = first["loc"], first["input"]
    where = at + ".".join(map(str, loc))
    if first["type"] == "missing":
        return f"{where}: expected it, got none"
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key{_hint(kind, loc, content)}"
    if first["type"] != "value_error":
        return f"{where or 'top level'}: {first['msg']}; got {given!r:.80}"
    said = str(first["ctx"]["error"])  # our own: mostly it says what it got, and of a whole record always
    got = "" if isinstance(given, dict) or "got " in said or repr(given) in said else f"; got {given!r:.80}"
    return f"{where}: {said}{got}" if where else f"{said}{got}"


def _hint(kind: type[BaseModel] | None, loc: tuple[int | str, ...], content: Any) -> str:
    """What may be meant by an unknown key: one that is spelled alike, or the same further out; else what is known."""
    key, fields = str(loc[-1]), _fields_at(kind, loc[:-1])
    if close := get_close_matches(key, fields, n=1):
        return f"; did you mean {close[0]!r}?"
    for depth in range(len(loc) - 1):
        if key in (outer := _fields_at(kind, loc[:depth])):
            inside = content
            for part in loc[:depth]:
                inside = inside[part]
            beside = next((one for one in inside if one in outer and outer[one].is_required()), loc[depth])
            return f": it belongs beside {beside!r}, not inside {loc[depth]!r}"
    return f": expected one of {', '.join(fields)}" if fields else ""


def _fields_at(kind: Any, loc: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    """The fields of the record at a place in one of some kind, by name; none where it is no record."""
    for part in loc:
        kind = _plain(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation if part in kind.model_fields else None
        else:  # of a mapping the values, of a sequence the items
            kind = next(iter(get_args(kind)[1 if isinstance(part, str) else 0 :]), None)
    kind = _plain(kind)
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def _plain(kind: Any) -> Any:
    """A type without what is annotated to it, and without None."""
    while get_origin(kind) is Annotated or type(None) in get_args(kind):
        kind = next(one for one in get_args(kind) if one is not type(None))
    return kind


def _content(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def write_yaml(path: Path, record: Record) -> None:
    """Write a record as YAML; what has its default is left out."""
    content = record.model_dump(mode="json", exclude_defaults=True)
    path.write_text(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110), "utf-8")
