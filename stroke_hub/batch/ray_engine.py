"""A work list on a Ray cluster: the same rows as on one machine, one worker a CPU."""

import io
import logging
import os
from collections.abc import Callable, Generator, Iterable
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

__all__ = ["import_ray", "predict_on_cluster"]


def predict_on_cluster(
    load: Callable[[], Predictor], chunks: Iterable[Chunk], *, settings: PredictSettings
) -> Generator[Step, None, None]:
    """Predict chunks on the Ray cluster that this process is connected to, or RAY_ADDRESS names, or a local one.

    Parameters
    ----------
    load : gives the model; every worker calls it, so a run folder, like the files of the chunks, must be where all
        of them see it under the same path.
    chunks : named in the driver's memory, all at once: some 100 bytes a file.

    Yields
    ------
    Steps, each a finished chunk, in the order in which workers finish them; the rows are, bit by bit, those of
    `predict_chunks`.

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
        rows = [{"number": chunk.number, "items": write_entries(chunk.entries)} for chunk in chunks]
        if not rows:
            return
        logging.getLogger("ray.data").setLevel("ERROR")  # it would tell, and warn, of bars that are ours to draw
        ray.data.DataContext.get_current().enable_progress_bars = False
        workers = max(1, min(len(rows), int(ray.cluster_resources().get("CPU", 1))))
        dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * workers)).map_batches(
            _Worker,
            fn_constructor_args=(load, settings),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
        )
        for row in dataset.iter_rows():
            chunk = Chunk(int(row["number"]), read_entries(row["items"]))
            table = pd.read_feather(io.BytesIO(row["table"]))
            yield Step(chunk, len(table), table)
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

    def __init__(self, load: Callable[[], Predictor], settings: PredictSettings) -> None:
        self.model, self.settings = load(), settings

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        tables = []
        for number, entries in zip(batch["number"], batch["items"], strict=True):
            buffer = io.BytesIO()
            predict_chunk(self.model, Chunk(int(number), read_entries(entries)), self.settings).to_feather(buffer)
            tables.append(buffer.getvalue())
        return batch | {"table": np.array(tables, object)}
