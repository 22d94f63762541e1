"""A work list and a model -> a table of predictions, on all cores, in bounded memory."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, Union

import numpy as np
import pandas as pd

from stroke_hub import __version__
from stroke_hub.batch.table import ResumableTable
from stroke_hub.batch.worklist import (
    Chunk,
    FramedFile,
    find_entries,
    form_chunks,
    open_entry,
    read_chunks,
    write_chunks,
)
from stroke_hub.errors import RunError
from stroke_hub.inference.onnx_model import Precision, count_cores
from stroke_hub.inference.predict import predict
from stroke_hub.inference.predictor import Backend, Predictor
from stroke_hub.inference.results import CONTRIBUTIONS
from stroke_hub.io.sight import FramedSlice, frame_slice, frame_square
from stroke_hub.io.slices import Slice
from stroke_hub.io.sources import load_files
from stroke_hub.io.windowing import Modality, Window
from stroke_hub.progress import say, track

if TYPE_CHECKING:  # an exported model needs no torch
    from stroke_hub.models.resnet_vit import ResNetViT

__all__ = [
    "Engine",
    "PredictSettings",
    "Step",
    "Summary",
    "load_model",
    "predict_archive",
    "predict_chunk",
    "predict_chunks",
    "predict_paths",
    "predict_slices",
]

Model: TypeAlias = Union["ResNetViT", Predictor]

LIST_FILE = "inputs.jsonl"
NO_IMAGE = "There is no image in what was given; name image files, or folders that hold some."

Result = TypeVar("Result")


@dataclass(frozen=True)
class PredictSettings:
    """How slices become rows; what any of these changes, if only by rounding, is another table.

    batch_size : slices that go through the model at once; above 16, a CPU spends its time on fresh memory.
    contributions : columns with what CNN, ViT and baseline contribute to Stroke, in log-odds: at no extra cost for
        a standard transformer, at the price of a backward pass for others.
    modality, window : as `load_slices` takes them.
    """

    batch_size: int = 16
    contributions: bool = True
    modality: Modality | None = None
    window: Window | None = None

    @property
    def answers(self) -> dict[str, str]:
        """The columns that the model fills, and their kinds."""
        shares = [f"contribution_{name}" for name in CONTRIBUTIONS] if self.contributions else []
        first = {"label": "string", "stroke_probability": "float64"}
        named = {"baseline": "string"} if self.contributions else {}
        return first | dict.fromkeys(shares, "float32") | named | {"unusual": "bool"}

    @property
    def columns(self) -> dict[str, str]:
        """All columns of the table, and their kinds."""
        return {"path": "string", "index": "int64", **self.answers, "error": "string", "remarks": "string"}


class Step(NamedTuple):
    """What an engine has done since its step before.

    chunk : the chunk that it is at.
    rows : done.
    table : with the chunk's last step all its rows, as the final table has them.
    """

    chunk: Chunk
    rows: int
    table: pd.DataFrame | None


Engine = Callable[[Iterable[Chunk]], Generator[Step, None, None]]


@dataclass
class Summary:
    """What came out: rows and rows with an error of the whole table, and slices a second of this run."""

    rows: int = 0
    errors: int = 0
    rate: float = 0.0


# --- slices -> columns --------------------------------------------------------------------------------------


def load_model(
    model: str, revision: str | None, *, backend: Backend | Literal["auto"] = "auto", precision: Precision = "fp32"
) -> Predictor:
    """The model of a run folder or of the Hub, as every engine and every worker loads it: one thread an answer."""
    return Predictor.from_pretrained(model, revision=revision, backend=backend, precision=precision, threads=1)


def predict_slices(model: Model, slices: Sequence[FramedSlice], settings: PredictSettings) -> dict[str, Any]:
    """The columns that the model fills, for one slice or more: nothing else asks it."""
    found = predict(model, slices, batch_size=len(slices), contributions=settings.contributions)
    answers: dict[str, Any] = {"label": found.label, "stroke_probability": found.probability}
    if found.contributions is not None:
        answers |= {f"contribution_{name}": found.contributions[:, i] for i, name in enumerate(CONTRIBUTIONS)}
        answers["baseline"] = found.baseline
    return answers | {"unusual": found.unusual}


# --- chunks -> tables ----------------------------------------------------------------------------------------


@dataclass
class _Batch:
    """Rows of one chunk, in order; those without an error get their answers from the model."""

    chunk: Chunk
    last: bool = False
    rows: list[tuple[str, int, str, str]] = field(default_factory=list)  # path, index, error, remarks
    slices: list[FramedSlice] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)


def predict_chunks(
    model: Model, chunks: Iterable[Chunk], settings: PredictSettings, *, threads: int | None = None
) -> Generator[Step, None, None]:
    """Predict chunks in their order, decoding some files ahead of the model, on `threads` threads.

    Every thread decodes and computes by itself: no thread waits for the others inside an operation, the weights are
    shared, and nothing is copied between processes. Memory holds the squares of some batches. Which slices share a
    batch follows from the chunk alone, so a chunk's rows are the same bits in any run, on any number of threads.

    Parameters
    ----------
    threads : by default as many as cores are available, or as torch may use.
    """
    threads, pool = _start_threads(model, threads)

    def frame(one: Slice) -> FramedSlice:
        framed = frame_slice(model, one)
        return replace(frame_square(framed.square), remarks=framed.remarks)  # the picture is let go at once

    load = partial(load_files, modality=settings.modality, window=settings.window)

    def list_jobs() -> Iterator[Callable[[], tuple[Chunk, FramedFile | None]]]:
        for chunk in chunks:
            for entry in chunk.entries:
                yield from (partial(_keep, chunk, job) for job in open_entry(entry, frame, load))
            yield partial(_keep, chunk, None)

    try:
        loaded = _do_in_order(pool, list_jobs(), ahead=2 * settings.batch_size + 2 * threads)
        batches = _form_batches(loaded, settings.batch_size)
        answers = (partial(_answer, model, batch, settings) for batch in batches)
        answered: list[_Batch] = []
        for batch in _do_in_order(pool, answers, ahead=2 * threads):
            answered.append(batch)
            yield Step(batch.chunk, len(batch.rows), _tabulate(answered, settings) if batch.last else None)
            if batch.last:
                answered = []
    finally:
        pool.shutdown(cancel_futures=True)


def predict_chunk(model: Model, chunk: Chunk, settings: PredictSettings) -> pd.DataFrame:
    """The rows of one chunk, by one thread: what a worker of a cluster does."""
    return next(
        step.table for step in predict_chunks(model, [chunk], settings, threads=1) if step.table is not None
    )


def _start_threads(model: Model, threads: int | None) -> tuple[int, ThreadPoolExecutor]:
    if isinstance(model, Predictor) and model.backend == "onnx":
        threads = threads or count_cores()
        return threads, ThreadPoolExecutor(threads)
    import torch

    threads = threads or torch.get_num_threads()
    # its own threads do not split operations among further ones; the setting is theirs alone
    return threads, ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


def _keep(chunk: Chunk, job: Callable[[], FramedFile] | None) -> tuple[Chunk, FramedFile | None]:
    return chunk, job() if job else None


def _do_in_order(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], Result]], *, ahead: int) -> Iterator[Result]:
    """Results in the jobs' order, with at most `ahead` of them taken up or waiting: `Executor.map` takes up all."""
    waiting: deque[Future[Result]] = deque()
    for job in jobs:
        waiting.append(pool.submit(job))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _form_batches(loaded: Iterable[tuple[Chunk, FramedFile | None]], size: int) -> Iterator[_Batch]:
    """Batches of at most `size` slices, none of two chunks; each chunk ends with a batch that says so."""
    batch = None
    for chunk, file in loaded:
        batch = batch or _Batch(chunk)
        if file is None:
            batch.last = True
            yield batch
            batch = None
            continue
        name = os.fsencode(file.name).decode(errors="backslashreplace")  # names on disk need not be UTF-8
        if file.error:
            batch.rows.append((name, 0, file.error, ""))
        for index, one in enumerate(file.slices):
            if len(batch.slices) == size:
                yield batch
                batch = _Batch(chunk)
            batch.rows.append((name, index, "", " ".join(one.remarks)))
            batch.slices.append(one)


def _answer(model: Model, batch: _Batch, settings: PredictSettings) -> _Batch:
    if batch.slices:
        batch.answers = predict_slices(model, batch.slices, settings)
        batch.slices = []
    return batch


def _tabulate(batches: Sequence[_Batch], settings: PredictSettings) -> pd.DataFrame:
    rows = [row for batch in batches for row in batch.rows]
    table = pd.DataFrame(rows, columns=["path", "index", "error", "remarks"]).astype({"index": "int64"})
    fine = (table["error"] == "").to_numpy(bool)
    for name, kind in settings.answers.items():
        real = kind.startswith("float")
        column = np.full(len(table), np.nan if real else None, kind if real else object)
        if fine.any():
            column[fine] = np.concatenate([batch.answers[name] for batch in batches if batch.answers])
        table[name] = column
    return table[list(settings.columns)]


# --- a whole archive ----------------------------------------------------------------------------------------


def predict_paths(
    model: Model, sources: Sequence[str | Path], settings: PredictSettings, *, most: int | None = None
) -> pd.DataFrame:
    """Predict what `worklist.find_entries` takes, into memory; one bad file never ends the run.

    Parameters
    ----------
    most : files or row groups that are taken; any number where it is None.

    Returns
    -------
    A row a slice, in the order of the work list: path, index (page or slice of the file), label,
    stroke_probability, where asked for contribution_cnn, _vit and _baseline (log-odds of Stroke), unusual (unlike
    the training slices), error (one sentence, "" where fine; then all between are missing), remarks (sentences on
    the picture, "" where there are none).

    Raises
    ------
    RunError : there is nothing to predict, or more than `most`.
    """
    entries = list(islice(find_entries(sources), None if most is None else most + 1))
    if not entries:
        raise RunError(NO_IMAGE)
    if most is not None and len(entries) > most:
        raise RunError(f"There are more than {most:,} files; give --out FILE.csv, a table on disk.")
    chunks = list(form_chunks(entries))
    steps = predict_chunks(model, chunks, settings)
    tables = [table for _, table in _follow(steps, sum(len(chunk.entries) for chunk in chunks), Summary())]
    return pd.concat(tables, ignore_index=True)


def predict_archive(
    engine: Engine,
    sources: Sequence[str | Path],
    out: Path,
    settings: PredictSettings,
    *,
    about: dict[str, Any],
    resume: bool = False,
) -> Summary | None:
    """Predict what `worklist.find_entries` takes into a table on disk, in bounded memory.

    Parameters
    ----------
    engine : chunks in, finished chunks out, in any order.
    sources : as `worklist.find_entries` takes them.
    out : a .csv or .parquet file, with the columns of `predict_paths`; replaced if it is there.
        ``OUT.json`` beside it tells what was predicted with what.
    about : the model, in words and hashes; kept in that JSON.
    resume : go on where an interrupted run of the same inputs, model and settings stopped.

    Returns
    -------
    What came out; None where `resume` finds it finished already.

    Raises
    ------
    RunError : there is nothing to predict, an interrupted run but no `resume`, one of something else, or another
        process at it.
    """
    table = ResumableTable(out, settings.columns)
    with table.opening():
        list_file = table.folder / LIST_FILE
        count, inputs = write_chunks(form_chunks(find_entries(sources)), list_file)
        if not count:
            raise RunError(NO_IMAGE)
        run = {
            "version": __version__,
            "inputs": {"count": count, "sha256": inputs},
            "settings": asdict(settings),
            "model": about,
        }
        if table.claim(run, resume=resume):
            return None
        done = table.find_chunks()
        if done:
            say(f"{table.folder}: {len(done)} chunks are there already")
        chunks = (chunk for chunk in read_chunks(list_file) if chunk.number not in done)
        left = sum(len(chunk.entries) for chunk in read_chunks(list_file) if chunk.number not in done)
        summary = Summary()
        with closing(engine(chunks)) as steps:  # a cluster is left even where a chunk cannot be stored
            for chunk, rows in _follow(steps, left, summary):
                table.add(chunk.number, rows)
        summary.rows, summary.errors = table.count_rows()
        table.join()
    return summary


def _follow(steps: Iterable[Step], files: int, summary: Summary) -> Iterator[tuple[Chunk, pd.DataFrame]]:
    """Pass finished chunks on, showing how far of `files` and how fast; the counts go into `summary`."""
    start, done = time.monotonic(), 0

    def count() -> Iterator[Step | None]:
        for step in steps:
            summary.rows += step.rows
            summary.rate = summary.rows / (time.monotonic() - start)
            yield step
            yield from [None] * (step.rows - 1)  # a step a row: a file may be a slice or a whole archive

    def tell() -> str:
        left = f", {(time.monotonic() - start) / done * (files - done):.0f} s left" if done else ""
        return f"{done} of {files} files, {summary.rate:.1f} slices/s{left}"

    for step in track(count(), "predicting", status=tell):
        if step is not None and step.table is not None:
            done += len(step.chunk.entries)
            yield step.chunk, step.table
