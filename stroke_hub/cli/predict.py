"""The command predict: files, folders and archives -> a table, on the screen or in a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from stroke_hub.cli.common import program
from stroke_hub.errors import RunError, pluralise, printable
from stroke_hub.io.windowing import Modality, Window
from stroke_hub.progress import say

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["predict_files"]

MOST_FILES = 1_000  # that are predicted without a table on disk
MOST_ROWS = 60  # shown on a screen
LONGEST = 200  # characters of a path that is shown


@program
def predict_files(
    sources: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE|FOLDER|ZIP|PARQUET|@LIST|-")
    ] = (),
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME|sample")],
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv|FILE.parquet")] = None,
    csv: bool = False,
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    list: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    batch_size: int = 16,
    contributions: bool = True,
    modality: Modality | None = None,
    window: Window | None = None,
    resume: bool = False,
    engine: Literal["threads", "ray"] = "threads",
    backend: Literal["auto", "torch", "onnx"] = "auto",
    precision: Literal["fp32", "int8"] = "fp32",
) -> None:
    """Predict files, folders, archives and tables: a row a slice; a bad file is a row with its error.

    Without --out the answers of up to 1,000 files are shown. With it any number becomes a table on disk, in flat
    memory. A run that was killed goes on with --resume; what is asked must be the same, or it is refused.

    Args:
        sources: images, DICOM or NIfTI files; folders, searched through; zip archives; parquet files with a column
            image, bytes or path (bytes, or paths, or both as `datasets` stores them); @FILE, a text file with a
            path on every line; - for the same from standard input.
        model: a run folder, a model on the Hub, or sample, the model that comes with the package.
        out: a table on disk, CSV or parquet by its suffix: path, index (page or slice of the file), label,
            stroke_probability, contribution_cnn, contribution_vit, contribution_baseline (log-odds of Stroke,
            summing to the probability's), unusual (unlike the training slices), error, remarks (on the picture).
            OUT.json beside it says what was predicted with what.
        csv: print these columns as CSV on standard output.
        revision: commit, tag or branch of a Hub model.
        list: a text file with a path on every line.
        batch_size: slices that go through the model at once, in every thread.
        contributions: the three columns; False leaves them out.
        modality: of all files, BT (CT) or MR. Without it a DICOM header may tell, or a model that knows one only.
        window: of CT in Hounsfield units: brain, stroke or subdural. Only models of config format 1 can be asked
            for one; others see the window that they were trained with, and refuse another.
        resume: go on where an interrupted run stopped, of the same files, unchanged since.
        engine: threads on all cores of this machine, or a Ray cluster: the one that RAY_ADDRESS names, or else
            one on this machine. Its workers must see model and files under the same paths.
        backend: what computes; auto is onnx where there is no GPU, onnxruntime is installed and `stroke-hub export`
            has written the model's onnx/, otherwise torch.
        precision: int8 is faster and rounded; it is of the backend onnx.
    """
    from functools import partial

    from stroke_hub.batch.pipeline import (
        PredictSettings,
        load_model,
        predict_archive,
        predict_chunks,
        predict_paths,
    )

    if batch_size < 1:
        raise RunError(f"batch_size is {batch_size}, but must be at least 1.")
    sources = (*sources, f"@{list}") if list else sources
    if not sources:
        raise RunError("Nothing was given to predict; name files or folders, or give --list.")
    if out is None and (resume or engine == "ray"):
        raise RunError(f"{'--resume' if resume else '--engine ray'} is for a table on disk; give --out FILE.csv.")
    if out is not None and csv:
        raise RunError("--csv prints the table that --out writes; give one of them.")
    if engine == "ray":
        from stroke_hub.batch.ray_engine import import_ray, predict_on_cluster

        import_ray()  # before an archive is searched through for nothing
    loaded = load_model(model, revision, backend=backend, precision=precision)
    if window not in (None, loaded.window) and loaded.rendering != "legacy":
        raise RunError(f"{model}: sees the window {loaded.window}, with which it was trained; leave --window out.")
    settings = PredictSettings(batch_size, contributions, modality, window)
    if out is None:
        table = predict_paths(loaded, sources, settings, most=MOST_FILES)
        if len(table) == 1 and table["error"][0]:
            raise RunError(table["error"][0])
        if csv:
            print(table.to_csv(index=False), end="")
        else:
            _show(table)
        if (table["error"] != "").all():
            raise RunError("Not one slice could be predicted.")
        return
    if engine == "ray":
        same = partial(
            load_model, model, loaded.commit or revision, backend=loaded.backend, precision=loaded.precision
        )
        run = partial(predict_on_cluster, same, settings=settings)
    else:
        run = partial(predict_chunks, loaded, settings=settings)
    source = Path(model).name if Path(model).is_dir() else model
    about = {"source": source, "commit": loaded.commit, "weights": loaded.hash_weights()}
    about |= {"backend": loaded.backend, "precision": loaded.precision}
    try:
        summary = predict_archive(run, sources, out, settings, about=about, resume=resume)
    except KeyboardInterrupt:
        say("\nstopped; the same command with --resume goes on from here.")
        raise SystemExit(130) from None
    if summary is None:
        say(f"{out}: is there already, of the same files, model and settings")
    else:
        words = f"{pluralise(summary.rows, 'row')}, {summary.errors} with an error, {summary.rate:.1f} slices/s"
        say(f"{out}: {words}")
        if summary.errors == summary.rows:
            raise RunError(f"{out}: not one slice could be predicted; its column error says why.")


def _show(table: "pd.DataFrame") -> None:
    """Show answers on standard output as people read them: a line a slice, and below what is to be said of it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from stroke_hub.inference.results import tell_probability

    rows = table.to_dict("records")
    paths = {row["path"] for row in rows}
    names = {path: path.rstrip("/").rsplit("/", 1)[-1] for path in paths}
    if len(set(names.values())) < len(paths):
        names = {path: path for path in paths}  # only their folders tell them apart
    is_paged = any(row["index"] for row in rows)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown.add_column("file", overflow="fold")
    if is_paged:
        shown.add_column("slice", justify="right")
    shown.add_column("answer", no_wrap=True)
    shown.add_column("probability of stroke", justify="right")
    shown.add_column("unusual")
    notes: dict[str, list[str]] = {}
    for row in rows:
        name = printable(names[row["path"]], limit=LONGEST)
        answer = ["cannot be read", "", ""]
        if not row["error"]:
            answer = [row["label"], tell_probability(row["stroke_probability"]), "yes" if row["unusual"] else ""]
        if shown.row_count < MOST_ROWS:
            shown.add_row(*map(Text, (name, *([str(row["index"] + 1)] if is_paged else []), *answer)))
        if row["error"] or row["remarks"]:
            notes.setdefault(row["error"] or row["remarks"], []).append(name)
    screen = Console(highlight=False)
    screen.print(shown)
    if more := len(rows) - shown.row_count:
        screen.print(f"{pluralise(more, 'slice')} more: --out FILE.csv keeps all.\n")
    for note, of in notes.items():
        whose = pluralise(len(of), "slice") if len(of) > 1 else of[0].rsplit("/", 1)[-1]
        screen.print(Text(note if note.startswith(f"{whose}: ") else f"{whose}: {note}"))  # errors name their file
    screen.print("Research software, not a medical device.")
