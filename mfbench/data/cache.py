"""Where downloaded and converted data are: a search path of folders, read-only site caches first.

The environment variable MFBENCH_DATA holds the path (separated like PATH); without it the path is one folder
below the platform's user data folder. The last folder is the one that is written to. A dataset called NAME has
the folder ``NAME`` there; a download gets its own name in it only once its hash is right.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

import platformdirs

from mfbench.errors import UserError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses to write into a UserError that says what to do."""
    try:
        yield
    except (OSError, UserError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__  # what ``files`` has said in its own words
        if not isinstance(cause, OSError) or type(error) not in (type(cause), UserError):
            raise  # of what is read, not of what is written
        full = cause.errno in (ENOSPC, EDQUOT)
        remedy = "remove data with `mfbench data rm`" if full else "mend its permissions"
        why = cause.strerror or type(cause).__name__
        raise UserError(f"cannot write {path}: {why}: {remedy}, or name another folder with {VARIABLE}") from error


VARIABLE = "MFBENCH_DATA"


def roots() -> tuple[Path, ...]:
    """The folders of the search path, in order; they need not exist."""
    named = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part.strip()]
    return tuple(named) or (platformdirs.user_data_path("mfbench", appauthor=False),)


def writable() -> Path:
    """The folder that downloads and conversions are written to."""
    return roots()[-1]


def folder_of(dataset: str) -> Path:
    """Where files of a dataset are written."""
    return writable() / dataset


def find_all(dataset: str, name: str) -> Iterator[Path]:
    """The files called ``name`` on the search path: in the dataset's folder, or loose beside it."""
    for root in roots():
        yield from (path for path in (root / dataset / name, root / name) if path.is_file())


def find(dataset: str, name: str) -> Path | None:
    """The first of them."""
    return next(find_all(dataset, name), None)


def converted_name(dataset: str) -> str:
    """Name of a dataset's converted file."""
    return f"{dataset}.mfbench.h5"
