"""A table that is written in chunks, so that no kill at any moment loses or doubles a row.

Beside the table NAME stands NAME.parts while it is made: a JSON that says what is put into it, and a file for every
finished chunk, whole or not there. At the end they are joined, and NAME.json is left to tell what NAME is of.
"""

import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from stroke_hub.errors import RunError
from stroke_hub.extras import name_extras
from stroke_hub.files import atomic_write, write_text

__all__ = ["ResumableTable"]

RUN_FILE, LOCK_FILE = "run.json", "lock"
JOINED_ROWS = 65_536  # of a row group of the final parquet file


class ResumableTable:
    """A CSV or parquet file to be, of chunks that are added in any order.

    Parameters
    ----------
    file : the table, .csv or .parquet.
    columns : names and kinds ("int64", "float32", "float64", "bool" or "string") of its columns; one is `error`.

    Raises
    ------
    RunError : for another suffix, or a folder.
    MissingExtra : it ends in .parquet, and pyarrow is not installed.
    """

    def __init__(self, file: Path, columns: dict[str, str]) -> None:
        self.file, self.columns = file, columns
        self.suffix = file.suffix.lower()
        if file.is_dir():
            raise RunError(f"{file}: is a folder; give the name of a .csv or .parquet file.")
        if self.suffix not in (".csv", ".parquet"):
            raise RunError(f"{file}: give a name that ends in .csv or .parquet.")
        if self.suffix == ".parquet":
            _import_arrow(file)
        self.folder = file.with_name(f"{file.name}.parts")
        self.note = file.with_name(f"{file.name}.json")

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Hold the folder of the chunks for this process; one without a finished chunk is removed again.

        Raises
        ------
        RunError : another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{self.file}: another process is writing it; wait for it, or give another name."
            ) from None
        try:
            yield
        finally:
            if not self.has_begun():
                shutil.rmtree(self.folder, ignore_errors=True)
            lock.release()

    def has_begun(self) -> bool:
        """Whether an interrupted run left something to go on with."""
        return (self.folder / RUN_FILE).is_file() and bool(self.find_chunks())

    def claim(self, run: dict[str, Any], *, resume: bool) -> bool:
        """Begin or go on with what `run` describes in JSON; whether the table is there already, finished.

        Raises
        ------
        RunError : what is there was begun with something else, or there is something and `resume` is False.
        """
        begun = self.has_begun()
        if begun and not resume:
            raise RunError(f"{self.folder}: holds an interrupted run; give --resume to go on, or delete it.")
        kept = self.folder / RUN_FILE if begun else self.note
        if resume and (begun or self.file.exists()) and kept.is_file():
            changed = _tell_changes(_read_json(kept), json.loads(json.dumps(run)))
            if changed:
                advice = f"delete {self.folder}" if begun else "leave --resume out"
                raise RunError(
                    f"{self.file}: was begun with other {changed}; give the same, or {advice} to begin anew."
                )
            if not begun:
                return True
        if not begun:  # a kill behind the joining may have left some
            for file in self.find_chunks().values():
                file.unlink()
        write_text(self.folder / RUN_FILE, json.dumps(run, indent=1) + "\n")
        return False

    # a chunk's file name says what is counted: number, rows, rows with an error

    def find_chunks(self) -> dict[int, Path]:
        """The finished chunks by number, in their order."""
        files = {int(file.name.split(".")[0]): file for file in self.folder.glob(f"[0-9]*.*.*{self.suffix}")}
        return dict(sorted(files.items()))

    def count_rows(self) -> tuple[int, int]:
        """Rows of all finished chunks, and how many of them have an error."""
        counts = [file.name.split(".")[1:3] for file in self.find_chunks().values()]
        return sum(int(rows) for rows, _ in counts), sum(int(errors) for _, errors in counts)

    def add(self, number: int, table: pd.DataFrame) -> None:
        """Store a chunk, on the disk itself when this returns."""
        errors = int((table["error"] != "").sum())
        file = self.folder / f"{number:08d}.{len(table)}.{errors}{self.suffix}"
        if self.suffix == ".csv":
            content = table.to_csv(index=False, header=False, lineterminator="\n").encode()
        else:
            buffer = io.BytesIO()
            _import_arrow(file).write_table(self._to_arrow(table), buffer)
            content = buffer.getvalue()
        with atomic_write(file) as partial, open(partial, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def join(self) -> None:
        """Write the table from its chunks, then remove them."""
        chunks = list(self.find_chunks().values())
        with atomic_write(self.file) as partial:
            if self.suffix == ".csv":
                self._join_csv(chunks, partial)
            else:
                self._join_parquet(chunks, partial)
        os.replace(self.folder / RUN_FILE, self.note)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _join_csv(self, chunks: Iterable[Path], out: Path) -> None:
        with open(out, "wb") as stream:
            stream.write((",".join(self.columns) + "\n").encode())
            for chunk in chunks:
                with open(chunk, "rb") as source:
                    shutil.copyfileobj(source, stream)

    def _join_parquet(self, chunks: Iterable[Path], out: Path) -> None:
        import pyarrow as pa

        parquet = _import_arrow(out)
        waiting, rows = [], 0
        with parquet.ParquetWriter(out, self._schema()) as writer:
            for chunk in chunks:
                waiting.append(parquet.read_table(chunk, schema=self._schema()))
                rows += len(waiting[-1])
                if rows >= JOINED_ROWS:
                    writer.write_table(pa.concat_tables(waiting).combine_chunks())
                    waiting, rows = [], 0
            if waiting:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())

    def _schema(self) -> Any:
        import pyarrow as pa

        return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in self.columns.items()])

    def _to_arrow(self, table: pd.DataFrame) -> Any:
        import pyarrow as pa

        return pa.Table.from_pandas(table, schema=self._schema(), preserve_index=False)


def _import_arrow(file: Path) -> Any:
    with name_extras(f"{file}: writing parquet instead of .csv"):
        import pyarrow.parquet
    return pyarrow.parquet


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


def _tell_changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The words for what differs, or ""."""
    return " and ".join(key for key in new if old.get(key) != new[key])
