"""Errors that a user can mend. Each message says what was expected, what was found and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Bad input from a person: the command line shows its message in one line and exits with code 2."""


class LabelsMissing(UserError):
    """The data hold no (or too few) labels of the kind that an arm trains on."""


class DataCorrupt(UserError):
    """A file does not hold what its manifest declares: wrong hash, keys, shapes, counts or units."""


def unknown(kind: str, got: str, known: Iterable[str], also: str = "") -> UserError:
    """The error for a name that does not exist: ``unknown case 'ani1'; expected one of ...``."""
    names = sorted(known)
    close = get_close_matches(got, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return UserError(f"unknown {kind} {got!r}: expected one of {', '.join(names) or '(none exist)'}{also}{hint}")
