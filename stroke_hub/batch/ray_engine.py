"""Work on a Ray cluster: the same rows as on one machine, one worker a CPU."""

import io
import logging
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stroke_hub.batch.pipeline import PredictSettings, Step, predict_chunk
from stroke_hub.batch.worklist import Chunk, read_entries, write_entries
from stroke_hub.errors import RunError
from stroke_hub.extras import name_extras
from stroke_hub.inference.onnx_model import count_cores
from stroke_hub.inference.predictor import Predictor

__all__ = ["import_ray", "map_on_cluster", "predict_on_cluster"]


def predict_on_cluster(
    load: Callable[[], Predictor], chunks: Iterable[Chunk], *, settings: PredictSettings
) -> Generator[Step, None, None]:
    """Predict chunks as `map_on_cluster` does work.

    Parameters
    ----------
    load : gives the model.
    chunks : named in the driver's memory, all at once: some 100 bytes a file.

    Yields
    ------
    Steps, each a finished chunk, in the order in which workers finish them; the rows are, bit by bit, those of
    `predict_chunks`.

    Raises
    ------
    RunError, MissingExtra : as `map_on_cluster`.
    """
    known = list(chunks)
    work = partial(_predict_entries, settings=settings)
    for number, content in map_on_cluster(load, work, [write_entries(chunk.entries) for chunk in known]):
        table = pd.read_feather(io.BytesIO(content))
        yield Step(known[number], len(table), table)


def _predict_entries(model: Predictor, entries: str, *, settings: PredictSettings) -> bytes:
    buffer = io.BytesIO()
    predict_chunk(model, Chunk(0, read_entries(entries)), settings).to_feather(buffer)
    return buffer.getvalue()


def map_on_cluster(
    load: Callable[[], Predictor], work: Callable[[Predictor, str], bytes], items: Sequence[str]
) -> Generator[tuple[int, bytes], None, None]:
    """Do work on the Ray cluster that this process is connected to, or RAY_ADDRESS names, or a local one.

    Parameters
    ----------
    load : gives the model; every worker calls it, so a run folder, like the files that are worked on, must be where
        all of them see it under the same path.
    work : what is done with each item, by one thread.

    Yields
    ------
    The number of an item and what came of it, in the order in which workers finish.

    Raises
    ------
    RunError : the cluster cannot be reached.
    MissingExtra : ray is not installed.
    """
    ray = import_ray()
    mine = not ray.is_initialized()
    if mine:
        _connect(ray)
    try:
        rows = [{"number": number, "item": item} for number, item in enumerate(items)]
        if not rows:
            return
        logging.getLogger("ray.data").setLevel("ERROR")  # it would tell, and warn, of bars that are ours to draw
        ray.data.DataContext.get_current().enable_progress_bars = False
        workers = max(1, min(len(rows), int(ray.cluster_resources().get("CPU", 1))))
        dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * workers)).map_batches(
            _Worker,
            fn_constructor_args=(load, work),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
        )
        for row in dataset.iter_rows():
            yield int(row["number"]), row["result"]
    finally:
        if mine:
            ray.shutdown()


def import_ray() -> Any:
    """Ray, with ray.data.

    Raises
    ------
    MissingExtra : it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no request leaves the machine unasked
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters comes as an exception too
    with name_extras("--engine ray"):
        import ray.data
    return ray


def _connect(ray: Any) -> None:
    """To the cluster that RAY_ADDRESS names, or to one of this machine's cores."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not os.environ.get("RAY_ADDRESS"):
        options |= {
            "address": "local",
            "num_cpus": int(os.environ.get("OMP_NUM_THREADS") or count_cores()),
            "include_dashboard": False,
        }
    try:
        ray.init(**options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise RunError(
            f"The Ray cluster cannot be reached ({reason}); check RAY_ADDRESS and the cluster."
        ) from error


class _Worker:
    """One process of the cluster, with the model in it."""

    def __init__(self, load: Callable[[], Predictor], work: Callable[[Predictor, str], bytes]) -> None:
        self.model, self.work = load(), work

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        results = [self.work(self.model, str(item)) for item in batch["item"]]
        return {"number": batch["number"], "result": np.array(results, object)}
