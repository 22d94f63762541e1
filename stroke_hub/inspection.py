"""The programs that ask: a model of slices, a run of its report, two runs of their difference."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from stroke_hub.errors import RunError
from stroke_hub.files import making, write_text
from stroke_hub.folders import has_labels, has_splits, read_folder
from stroke_hub.pixels import Window
from stroke_hub.programs import name_dataset, note_simulated, program, read_noted, tell_figures, tell_notes
from stroke_hub.progress import say
from stroke_hub.records import Records, hash_records, read_records

if TYPE_CHECKING:
    from stroke_hub.model import ResNetViT

__all__ = ["evaluate_model", "explain_folder", "predict_files", "report_runs"]

PREDICTIONS_FILE = "predictions.csv"


@program
def evaluate_model(
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME")],
    data_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    split: Literal["test", "train"] = "test",
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = "",
    faithfulness: bool = False,
    compare: bool = False,
) -> None:
    """Measure any run or Hub model on any folder of slices, and explain chosen ones; without labels, predict only.

    Args:
        model: a run folder, or a model on the Hub.
        data_dir: a dataset folder in the Kaggle layout, or any folder of slices whose classes are told by folder
            names or by an index.csv with the columns path and label.
        out: a new folder for report.json, the CSVs and the figures; without labels for predictions.csv.
        revision: commit, tag or branch of a Hub model.
        split: which part of the dataset.
        data_note: words that every figure carries, for example what the data stand for.
        compare: print the model's own report beside the new figures; the exit status is 1 where one differs by more
            than 0.01 on the same slices, or on others lies outside the interval that the report gives.
        faithfulness: measure too whether the maps of the stroke slices are true (about 2 CPU-seconds a slice).
    """
    from stroke_hub.model import ResNetViT
    from stroke_hub.report import evaluate
    from stroke_hub.storage import REPORT_FILE, find_report, read_report

    loaded = ResNetViT.from_pretrained(model, revision=revision)
    records = _read_any(data_dir, split)
    tell_notes(records)
    if not has_labels(records):
        if compare or faithfulness:
            raise RunError(f"{data_dir}: has no labels to measure by; leave --compare and --faithfulness out.")
        _predict_only(loaded, records, out)
        return
    note = data_note or note_simulated(records)
    data = {"name": name_dataset(records), "note": note, "split": split, "notes": list(records.notes)}
    about = {
        "data": data | {"sha256": hash_records(records)},
        "model": {
            "source": Path(model).name if Path(model).is_dir() else model,
            "revision": loaded.commit or revision,
        },
    }
    own = find_report(model, loaded.commit or revision)
    about["calibration"] = own["calibration"] if own else None
    about["trained_on"] = {key: own["data"][key] for key in ("name", "note", "sha256")} if own else None
    with making(out) as folder:
        evaluate(
            loaded,
            records.part(split).assign(split="test"),
            records.root,
            folder,
            about=about,
            operating_points=own["operating_points"] if own else None,
            faithfulness=faithfulness,
        )
    tell_figures(out / REPORT_FILE, split)
    say(f"evaluation: {out}")
    if compare:
        _compare_with_own(own, read_report(out), model)


def _compare_with_own(own: dict[str, Any] | None, new: dict[str, Any], model: str) -> None:
    from stroke_hub.comparison import compare_reports

    if own is None:
        raise RunError(f"{model}: has no report of its own to compare with.")
    lines, agree = compare_reports(own, new)
    print("\n".join(lines))
    if not agree:
        raise RunError("Not every figure agrees with the model's own report; the lines above say which.")


def _read_any(data_dir: Path, split: str) -> Records:
    """The records of a folder in the Kaggle layout, or else of whatever lies in it."""
    if has_splits(data_dir):
        return read_records(data_dir)
    records = read_folder(data_dir)
    if split != "test":
        raise RunError(f"{data_dir}: has no train and test folders, so all of it is test; leave --split out.")
    return records


def _predict_only(model: "ResNetViT", records: Records, out: Path) -> None:
    """Write out/predictions.csv, with paths from the folder that was read; a bad file is a row with its error."""
    from stroke_hub.predictions import predict_paths

    with making(out) as folder:
        table = predict_paths(model, [records.root / path for path in records.table["path"]])
        table["path"] = [Path(path).relative_to(records.root).as_posix() for path in table["path"]]
        write_text(folder / PREDICTIONS_FILE, table.to_csv(index=False))
    bad = int((table["error"] != "").sum())
    say(f"predictions only: {out / PREDICTIONS_FILE}, {_count(len(table))}, {bad} with an error")


def _count(rows: int) -> str:
    # findings.count would bring OpenCV and scikit-learn along, which predict.py does without
    return f"{rows} row{'' if rows == 1 else 's'}"


@program
def predict_files(
    sources: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE|FOLDER|ZIP|PARQUET|@LIST|-")
    ] = (),
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME")],
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.csv|FILE.parquet")],
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    list: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    batch_size: int = 16,
    contributions: bool = True,
    window: Window | None = None,
    resume: bool = False,
    engine: Literal["threads", "ray"] = "threads",
    backend: Literal["auto", "torch", "onnx"] = "auto",
    precision: Literal["fp32", "int8"] = "fp32",
) -> None:
    """Predict files, folders, archives and tables of any size: a row a slice; a bad file is a row with its error.

    A run that was killed goes on with --resume; what is asked must be the same, or it is refused. Memory stays
    flat, whatever the number of files.

    Args:
        sources: images, DICOM or NIfTI files; folders, searched through; zip archives; parquet files with a column
            image, bytes or path (bytes, or paths, or both as `datasets` stores them); @FILE, a text file with a
            path on every line; - for the same from standard input.
        model: a run folder, or a model on the Hub.
        out: the table, CSV or parquet by its suffix: path, index (page or slice of the file), label,
            stroke_probability, contribution_cnn, contribution_vit, contribution_baseline (log-odds of Stroke,
            summing to the probability's), unusual (unlike the training slices), error. OUT.json beside it says what
            was predicted with what.
        revision: commit, tag or branch of a Hub model.
        list: a text file with a path on every line.
        batch_size: slices that go through the model at once, in every thread.
        contributions: the three columns; False leaves them out.
        window: of CT in Hounsfield units: brain (the default), stroke or subdural.
        resume: go on where an interrupted run stopped, of the same files, unchanged since.
        engine: threads on all cores of this machine, or a Ray cluster: the one that RAY_ADDRESS names, or else
            one on this machine. Its workers must see model and files under the same paths.
        backend: what computes; auto is onnx where there is no GPU, onnxruntime is installed and scripts/export.py
            has written the model's onnx/, otherwise torch.
        precision: int8 is faster and rounded; it is of the backend onnx.
    """
    from functools import partial

    from stroke_hub.predictions import PredictSettings, load_model, predict_archive, predict_parts

    if batch_size < 1:
        raise RunError(f"batch_size is {batch_size}, but must be at least 1.")
    sources = (*sources, f"@{list}") if list else sources
    if not sources:
        raise RunError("Nothing was given to predict; name files or folders, or give --list.")
    if engine == "ray":
        from stroke_hub.cluster import import_ray, predict_on_cluster

        import_ray()  # before an archive is searched through for nothing
    loaded = load_model(model, revision, backend=backend, precision=precision)
    settings = PredictSettings(batch_size, contributions, window)
    if engine == "ray":
        same = partial(
            load_model, model, loaded.commit or revision, backend=loaded.backend, precision=loaded.precision
        )
        run = partial(predict_on_cluster, same, settings=settings)
    else:
        run = partial(predict_parts, loaded, settings=settings)
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
        words = f"{_count(summary.rows)}, {summary.errors} with an error, {summary.rate:.1f} slices/s"
        say(f"{out}: {words}")
        if summary.errors == summary.rows:
            raise RunError(f"{out}: not one slice could be predicted; its column error says why.")


@program
def explain_folder(
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME")],
    data_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    split: Literal["test", "train"] = "test",
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = "",
) -> None:
    """Explain every slice of a dataset's split: maps, pictures and a page to look through, worst errors first.

    Args:
        model: a run folder, or a model on the Hub.
        data_dir: a dataset folder in the Kaggle layout.
        out: a new folder for index.html, explanations.csv, maps/ and pictures/.
        revision: commit, tag or branch of a Hub model.
        split: which part of the dataset.
        data_note: words that the page carries, for example what the data stand for.
    """
    from stroke_hub.gallery import write_gallery
    from stroke_hub.model import ResNetViT

    loaded = ResNetViT.from_pretrained(model, revision=revision)
    records = read_noted(data_dir)
    note = data_note or note_simulated(records)
    with making(out) as folder:
        page = write_gallery(loaded, records.part(split), records.root, folder, note=note)
    say(f"gallery: {out / page.name}")


@program
def report_runs(
    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = None,
    *,
    compare: Annotated[tuple[Path, Path] | None, tyro.conf.arg(metavar="FOLDER FOLDER")] = None,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> None:
    """Write report.html of an evaluated run again from its report.json, or compare two runs on the same slices.

    Args:
        run: an evaluated run folder.
        compare: two evaluated folders; the first minus the second, with intervals of the differences.
        out: with --compare, a folder for comparison.json and a figure of the differences.
    """
    from stroke_hub.comparison import compare as compare_runs
    from stroke_hub.comparison import write_comparison
    from stroke_hub.page import write_page
    from stroke_hub.storage import read_report

    if (run is None) == (compare is None):
        raise RunError("Give either a run folder, or --compare with two of them.")
    if run is not None:
        say(f"report: {write_page(read_report(run), run / 'figures', run / 'report.html')}")
    if compare is not None:
        result = compare_runs(*compare)
        print(_tabulate_comparison(result))
        if out:
            write_comparison(result, out)
            say(f"comparison: {out}")


def _tabulate_comparison(result: dict[str, Any]) -> str:
    """A line a metric: both values and the difference, with intervals."""
    from stroke_hub.summary import say_interval
    from stroke_hub.wording import METRICS

    a, b = (result[side]["folder"] for side in "ab")
    counts = f"{result['n']} slices in both, {result['n_stroke']} strokes, {result['groups']} patients or groups"
    lines = [f"a: {a}", f"b: {b}", counts, "95 % intervals over patients; a minus b over the same resamples", ""]
    lines.append(f"{'':25}{'a':24}{'b':24}a - b")
    for name, cell in result["metrics"].items():
        words = [say_interval(cell[side]) for side in ("a", "b", "difference")]
        lines.append(f"{METRICS[name]:25}{words[0]:24}{words[1]:24}{words[2]}")
    notes = {result[side]["note"] for side in "ab"} - {""}
    return "\n".join([*lines, *(f"Every figure is of: {note}." for note in sorted(notes))])
