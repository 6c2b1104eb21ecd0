"""Pickles of plain data: lists, tuples, dicts, numbers and strings, and nothing that runs."""

import pickle
from pathlib import Path
from typing import Any, NoReturn

from disback_plugin.errors import DataError


class _NoGlobals(pickle.Unpickler):
    """Every class or function that a pickle names goes through `find_class`; none is given."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise DataError(f"it asks for {module}.{name}")


def read_plain_pickle(path: Path) -> Any:
    """The object in the file, which is built of builtin containers, numbers and strings only.

    Raises DataError that names the first class or function asked for, or what is damaged.
    """
    try:
        with path.open("rb") as stream:
            return _NoGlobals(stream).load()
    except DataError as error:
        raise DataError(
            f"{path} is refused: {error}, and only lists and strings are read; nothing was run"
        ) from None
    except OSError:
        raise
    except Exception as error:  # damaged bytes raise nearly anything, a MemoryError among them
        raise DataError(f"{path} is no readable pickle: {type(error).__name__}: {error}") from None
