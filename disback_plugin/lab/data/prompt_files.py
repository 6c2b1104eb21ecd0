"""Prompts as they lie in files: lines, tables, Hugging Face data sets, pickles of plain strings."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from disback_plugin.errors import DataError
from disback_plugin.lab.data.optional import needed
from disback_plugin.reading import cut, shown, told

COLUMNS = ("prompt", "prompts", "caption", "captions", "text")  # in any case: LAION has TEXT


def read_lines(path: Path, limit: int) -> Iterator[str]:
    """One prompt a line, in UTF-8, of at most `limit` characters."""
    with path.open("rb") as stream:  # only "\n" ends a line: prompts may hold U+2028 and the like
        number = 0
        while line := stream.readline(4 * limit + 5):
            number += 1
            if len(line) > 4 * limit + 4:
                raise DataError(f"{path}, line {number} is too long for a prompt: give one a line")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}, line {number} is not UTF-8 (byte {line[error.start]:#04x}); convert "
                    "the file: iconv -f LATIN1 -t UTF-8"
                ) from None


def read_parquet(path: Path, column: str | None) -> Iterator[str | None]:
    """Batch by batch, so that a table of images and captions is never in memory whole."""
    parquet = needed("pyarrow.parquet", f"reading {path.name}")
    with _readable(str(path)), parquet.ParquetFile(path) as file:
        chosen = choose_column(str(path), file.schema_arrow, column)
        for batch in file.iter_batches(columns=[chosen]):
            yield from batch.column(0).to_pylist()


def read_csv(path: Path, column: str | None) -> Iterator[str | None]:
    """The first line names the columns."""
    csv = needed("pyarrow.csv", f"reading {path.name}")
    with _readable(str(path)):
        table = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True))
    if column is None and not any(name.lower() in COLUMNS for name in table.column_names):
        raise DataError(
            f"{path}: its first line, {shown(table.column_names)}, should name the columns, and "
            f"none is {', '.join(COLUMNS)}: choose a column, or put such a line before the prompts"
        )
    return _column(str(path), table, column)


def read_jsonl(path: Path, column: str | None) -> Iterator[str | None]:
    """One JSON object a line."""
    json = needed("pyarrow.json", f"reading {path.name}")
    with _readable(str(path)):
        table = json.read_json(path)
    return _column(str(path), table, column)


READERS: dict[str, Callable[[Path, str | None], Iterator[str | None]]] = {
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".jsonl": read_jsonl,
}


def read_folder(path: Path, column: str | None, split: str | None) -> Iterator[str | None]:
    """A folder that `datasets.save_to_disk` wrote: one data set, or one a split."""
    datasets = needed("datasets", f"reading {path}")
    with _readable(str(path)):
        loaded = datasets.load_from_disk(str(path))
    if isinstance(loaded, datasets.DatasetDict):
        loaded = loaded[choose_split(str(path), list(loaded), split)]
    elif split is not None:
        raise DataError(f"{path} has no splits: leave split={split!r} out")
    return _dataset_column(str(path), loaded, column)


def read_hub(name: str, column: str | None, split: str | None) -> Iterator[str | None]:
    """A data set of the Hugging Face hub, through its library's cache."""
    datasets = needed("datasets", f"reading hf:{name}")
    with _readable(f"hf:{name}"):
        chosen = choose_split(f"hf:{name}", datasets.get_dataset_split_names(name), split)
        loaded = datasets.load_dataset(name, split=chosen)
    return _dataset_column(f"hf:{name}", loaded, column)


def read_pickle(path: Path, trusted: bool) -> list[str | None]:
    """A list of strings, only where it is `trusted`; nothing in it is run even then."""
    if not trusted:
        raise DataError(
            f"{path} is a pickle, which could ask to run anything; convert it to .txt, or pass "
            "--trust-pickle (trust_pickle=True): it is then read as a list of strings, and refused "
            "if it needs more"
        )
    prompts = _read_plain_pickle(path)
    if not isinstance(prompts, list | tuple):
        raise DataError(f"{path} holds a {type(prompts).__name__}, not a list of strings")
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt, str | None):
            raise DataError(f"{path}: entry {number} is a {type(prompt).__name__}, not a string")
    return list(prompts)


def choose_split(name: str, splits: list[str], split: str | None) -> str:
    """`split`, else the only one, else "train"."""
    if split is None and len(splits) == 1:
        return splits[0]
    chosen = split or "train"
    if chosen not in splits:
        raise DataError(f"{name} has no split {chosen!r}; it has {', '.join(splits)}")
    return chosen


def choose_column(name: str, schema: Any, column: str | None) -> str:
    """`column`, else the one named as in COLUMNS, else the only column of strings."""
    texts = [field.name for field in schema if str(field.type) in ("string", "large_string")]
    if column is not None:
        if column not in texts:
            kind = f"is {schema.field(column).type}" if column in schema.names else "is missing"
            raise DataError(
                f"{name}: the column {column!r} {kind}; columns of text: {_listed(texts)}"
            )
        if texts.count(column) > 1:
            raise DataError(f"{name}: the column {column!r} is there twice")
        return column
    named = [text for text in texts if text.lower() in COLUMNS] or texts
    if len(named) != 1:
        seen = f"any of {_listed(named)}" if named else f"none of {_listed(schema.names)}"
        raise DataError(f"{name}: prompts could be in {seen}; choose a column")
    return named[0]


def _column(name: str, table: Any, column: str | None) -> Iterator[str | None]:
    for chunk in table.column(choose_column(name, table.schema, column)).chunks:
        yield from chunk.to_pylist()


def _dataset_column(name: str, dataset: Any, column: str | None) -> Iterator[str | None]:
    chosen = choose_column(name, dataset.features.arrow_schema, column)
    # one column, as the library maps it from disk: no image beside it is read or decoded
    return _column(name, dataset.select_columns([chosen]).with_format("arrow")[:], chosen)


def _listed(names: list[str]) -> str:
    return cut(", ".join(names)) or "none"


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns what the libraries say of a damaged or missing table into a DataError naming it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # a damaged table raises nearly anything
        raise DataError(f"{name} cannot be read: {told(error)}") from error


class _NoGlobals(pickle._Unpickler):
    """Every class or function that a pickle names goes through `find_class`; none is given.

    The one in Python: a few bytes make the one in C fill the memory (its memo is an array).
    """

    dispatch: ClassVar = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]  # it would be allocated before it is read
    }

    def find_class(self, module: str, name: str) -> NoReturn:
        raise DataError(f"it asks for {module}.{name}")


def _read_plain_pickle(path: Path) -> Any:
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
        raise DataError(
            f"{path} is no readable pickle: {type(error).__name__}: {cut(error)}"
        ) from None
