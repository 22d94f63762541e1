"""Training, against what a notebook does with the same model: PIL, torchvision, eager fp32, two loader workers."""

import gc
import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import timm
import torch
import tyro
from benchmarks.machine import count_flops, measure_torch_rate
from benchmarks.timing import DEVICE, Call, Clock, Row, describe_ratios, read_memory, time_in_turns
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from stroke_hub import PRESETS, ResNetViT, load_slices, predict, read_records, write_sample
from stroke_hub.data.loader import AugmentedSlices, build_loader, decode_squares
from stroke_hub.data.simulated import simulate_patient
from stroke_hub.inference.predict import to_float_pixels
from stroke_hub.io.sight import frame_slice
from stroke_hub.io.windowing import Modality
from stroke_hub.progress import say
from stroke_hub.runs.train_config import TrainConfig
from stroke_hub.training.distributed import start_accelerator
from stroke_hub.training.loop import prepare_run, train_epoch
from stroke_hub.training.optim import WEIGHT_DECAY

GPU = DEVICE == "cuda"
BATCH = 32 if GPU else 8  # a step of the compact preset takes a second on two cores
SLICES = 640  # at most
EPOCH = SLICES if GPU else 40  # of the compact preset's epochs
COPIES = 20
DECODED = 40  # slices of the rows of framing
FAST: dict[str, Any] = {"precision": "bf16"}


# --- the notebook -------------------------------------------------------------------------------------------


class NotebookSlices(Dataset[tuple[Tensor, int]]):
    """Files, decoded anew in every epoch."""

    def __init__(self, files: list[Path], labels: list[int], size: int, *, augmented: bool) -> None:
        self.files, self.labels = files, labels
        random = [transforms.RandomHorizontalFlip(), transforms.RandomApply([transforms.RandomRotation(10)])]
        resize = [transforms.Resize((size, size)), *(random if augmented else [])]
        normalise = transforms.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
        self.transform = transforms.Compose([*resize, transforms.ToTensor(), normalise])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.files[index]).convert("RGB")), self.labels[index]


class NotebookModel(nn.Module):
    """ResNet and ViT from timm, features concatenated, a small head; dropout as in `ResNetViT`."""

    def __init__(self, cnn: str, vit: str, image_size: int) -> None:
        super().__init__()
        self.cnn = timm.create_model(cnn, num_classes=0)
        self.vit = timm.create_model(vit, num_classes=0, img_size=image_size)
        features = self.cnn.num_features + self.vit.num_features
        self.head = nn.Sequential(nn.Linear(features, 512), nn.ReLU(), nn.Dropout(0.3), nn.Linear(512, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2) of normalised pixels (N, 3, S, S)."""
        return self.head(torch.cat([self.cnn(x), self.vit(x)], dim=1))


def load_notebook(dataset: NotebookSlices, *, batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Two workers, kept alive between epochs, which a notebook seldom does: it is measured at its best."""
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=2, persistent_workers=True)


def train_notebook(
    model: NotebookModel, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor]]
) -> float:
    """One epoch; the mean of the losses."""
    model.train()
    losses = []
    for x, y in batches:
        x, y = x.to(DEVICE), y.to(DEVICE)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return statistics.mean(losses)


def validate_notebook(model: NotebookModel, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Probabilities of one pass over the validation slices."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(x.to(DEVICE)).softmax(1)[:, 1].cpu() for x, _ in batches])


# --- both ---------------------------------------------------------------------------------------------------


class Contest:
    """One preset's two models with equal weights and statistics, and both ways of training them."""

    def __init__(self, preset: str, *, batch_size: int, fast: bool = False) -> None:
        torch.manual_seed(0)
        config = TrainConfig(preset=preset, recipe="plain", batch_size=batch_size, epochs=1)
        self.config = replace(config, **(FAST if fast else {})).resolve()
        self.ours, self.theirs = build_model(preset).to(DEVICE), NotebookModel(**PRESETS[preset]).to(DEVICE)
        for part in ("cnn", "vit", "head"):
            getattr(self.theirs, part).load_state_dict(getattr(self.ours, part).state_dict())
        settings = {"lr": self.config.learning_rate, "weight_decay": WEIGHT_DECAY[self.config.recipe]}
        accelerator = start_accelerator(None, None)
        self.run = prepare_run(self.config, accelerator, self.ours, torch.arange(2), Path(os.devnull), 1e9)
        self.their_optimizer = torch.optim.AdamW(self.theirs.parameters(), **settings)

    def train_ours(self, dataset: AugmentedSlices) -> float:
        """One epoch as `fit` does it; its loss."""
        self.run.total, self.run.seen, self.run.step = 0.0, 0, 0
        return train_epoch(self.run, dataset, 1)

    def train_theirs(self, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """One epoch as the notebook does it; its loss."""
        return train_notebook(self.theirs, self.their_optimizer, batches)

    def check(self, squares: Tensor, x: Tensor) -> None:
        """Stop where the two models are not one function: nothing could be compared then."""
        with torch.no_grad():
            ours, theirs = self.ours.eval()(to_float_pixels(squares, DEVICE)), self.theirs.eval()(x)
        if not torch.allclose(ours, theirs, atol=1e-3):
            raise RuntimeError(f"the models differ by {float((ours - theirs).abs().max()):.2g} in their logits")


def build_model(preset: str) -> ResNetViT:
    """Random weights, and the notebook's preprocessing: whole stretched pictures, every mean and deviation 0.5."""
    model = ResNetViT(**PRESETS[preset], resize="stretch", framing="whole")
    for name in ("cnn_mean", "cnn_std", "vit_mean", "vit_std"):
        getattr(model, name).fill_(0.5)
    return model


def measure_pipeline(root: Path, table: pd.DataFrame) -> list[Row]:
    """Files to what the model takes, at 224 pixels: the notebook's normalised batches, ours in [0, 1].

    Our model normalises inside, so that this part of ours stands in the rows of the step.
    """
    model, labels = build_model("compact"), torch.tensor(table["label"].to_numpy())
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        squares = decode_squares(model, root, table)
        seconds.append(time.perf_counter() - start)
    ours = AugmentedSlices(squares.to(DEVICE), labels)
    files = [root / path for path in table["path"]]
    theirs = [load_notebook(NotebookSlices(files, labels.tolist(), 224, augmented=True), batch_size=32)]
    used: dict[str, list[float]] = {"ours": [], "theirs": []}

    def run_ours() -> None:
        start = time.process_time()
        for batch, _ in build_loader(ours, batch_size=32, seed=len(used["ours"])):
            to_float_pixels(batch, DEVICE)
        used["ours"].append(time.process_time() - start)

    def run_theirs() -> None:
        start = time.process_time()
        for batch, _ in theirs[0]:
            batch.to(DEVICE)
        used["theirs"].append(time.process_time() - start)

    before = read_workers_time()
    pairs = time_in_turns(run_theirs, run_ours, rounds=7, clock=time.perf_counter)
    theirs.clear()  # ends the workers: only then is their time known
    gc.collect()
    workers = (read_workers_time() - before) / len(used["theirs"])
    cpu = [(mine + workers, yours) for mine, yours in zip(used["theirs"], used["ours"], strict=True)][1:]
    speed = len(table) / statistics.median(ours for _, ours in pairs)
    bar = ">= 20" if GPU else ">= 10"
    return [
        describe_ratios("pipeline_images_per_second", pairs, bar, slices=len(table), ours_per_second=speed),
        describe_ratios("pipeline_cpu_time", cpu, "none"),
        describe_ratios("decoding_over_finding_again", [(seconds[0], seconds[1])], "none"),
    ]


def read_workers_time() -> float:
    """CPU seconds of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def measure_step(root: Path, table: pd.DataFrame) -> Row:
    """A training step of the compact preset on one batch, CPU time (a GPU: wall time)."""
    table, contest = table.iloc[:BATCH], Contest("compact", batch_size=BATCH)
    labels = torch.tensor(table["label"].to_numpy())
    squares = decode_squares(contest.ours, root, table)
    x, y = ((to_float_pixels(squares, DEVICE) - 0.5) / 0.5).contiguous(), labels.to(DEVICE)
    contest.check(squares, x)
    dataset = AugmentedSlices(squares.to(DEVICE), labels, augmentation="none")
    clock = time.perf_counter if GPU else time.process_time
    pairs = time_in_turns(
        lambda: contest.train_theirs([(x, y)]), lambda: contest.train_ours(dataset), rounds=9, clock=clock
    )
    floor = find_floor(lambda: contest.train_ours(dataset), pairs, clock)
    return describe_ratios("step_compact", pairs, ">= 3" if GPU else ">= 1", batch=len(table), **floor)


def measure_epoch(
    root: Path, table: pd.DataFrame, preset: str, bar: str, *, batch_size: int, rounds: int, fast: bool = False
) -> Row:
    """Training on four fifths of a table and validation on the rest, wall time; fast: with what a switch gives."""
    contest, cut = Contest(preset, batch_size=batch_size, fast=fast), len(table) * 4 // 5
    size, labels = contest.ours.image_size, torch.tensor(table["label"].to_numpy())
    squares = decode_squares(contest.ours, root, table).to(DEVICE)
    ours = AugmentedSlices(squares[:cut], labels[:cut])
    files = [root / path for path in table["path"]]
    their_training = NotebookSlices(files[:cut], labels[:cut].tolist(), size, augmented=True)
    their_validation = NotebookSlices(files[cut:], labels[cut:].tolist(), size, augmented=False)
    their_batches = load_notebook(their_training, batch_size=batch_size)
    their_rest = load_notebook(their_validation, batch_size=batch_size)

    def run_ours() -> None:
        contest.train_ours(ours)
        predict(contest.ours.eval(), squares[cut:], batch_size=batch_size)

    def run_theirs() -> None:
        contest.train_theirs(their_batches)
        validate_notebook(contest.theirs, their_rest)

    pairs = time_in_turns(run_theirs, run_ours, rounds=rounds, clock=time.perf_counter)
    name = f"epoch_{preset}{'_bf16' if fast else ''}"
    floor = find_floor(run_ours, pairs, time.perf_counter, "bf16" if fast else "fp32")
    return describe_ratios(name, pairs, bar, slices=len(table), batch=batch_size, **floor)


def find_floor(
    call: Call,
    pairs: list[tuple[float, float]],
    clock: Clock,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> dict[str, float]:
    """The ratio if ours took no longer than its operations, backward included; a GPU's rate is not measured."""
    if GPU:
        return {}
    seconds = count_flops(call) / measure_torch_rate(torch.get_num_threads(), clock, precision)
    return {"floor": statistics.median(theirs for theirs, _ in pairs) / seconds}


def find_peak(files: list[Path], copies: int) -> dict[str, float]:
    """Peak memory, in MiB, of a process that takes so many slices and goes through as many batches in any case."""
    model = build_model("compact")
    squares = decode_squares(model, Path("/"), pd.DataFrame({"path": [str(file) for file in files * copies]}))
    dataset, anonymous = AugmentedSlices(squares, torch.zeros(len(squares), dtype=torch.long)), 0.0
    for epoch in range(COPIES // copies):
        for batch, _ in build_loader(dataset, batch_size=32, seed=epoch):
            to_float_pixels(batch, "cpu")
            anonymous = max(anonymous, read_memory("RssAnon"))
    return {"squares": squares.nbytes / 2**20, "anonymous": anonymous, "with_mapped": read_memory("VmHWM")}


def measure_memory(root: Path, table: pd.DataFrame) -> Row:
    """What 20 times the slices add to the peak of memory, over what their squares measure.

    Counted is the memory that is the process's own; the pages of mapped files, which the kernel takes back when
    memory is short, stand beside it.
    """
    files = [(root / path).resolve() for path in table["path"]]
    peaks = []
    for copies in (1, COPIES):  # in processes of their own, which have nothing else in them
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            peaks.append(pool.submit(find_peak, files, copies).result())
    once, often = peaks
    share = (often["anonymous"] - once["anonymous"]) / (often["squares"] - once["squares"])
    return {"row": "memory_growth_over_squares", "value": share, "bar": "<= 0.05", "mib_1x": once, "mib_20x": often}


def write_slices(kind: Literal["JPEG", "DICOM"]) -> list[tuple[bytes, Modality]]:
    """Files as hospitals and datasets have them, half of them CT and half MR: 650 x 650 pixels, DICOM 512 x 512."""
    side, written = (650 if kind == "JPEG" else 512), list[tuple[bytes, Modality]]()
    for number in range(DECODED // 4):
        for scan, modality, scale, shift in (("CT", "BT", 1, 1024), ("FLAIR", "MR", 1500, 0)):
            for one in simulate_patient(number, scan, slices=2, size=side):
                buffer = io.BytesIO()
                if kind == "JPEG":
                    Image.fromarray(one.pixels).save(buffer, "JPEG", quality=90)
                else:
                    stored = (one.clean * scale + shift).clip(0, 4095).astype(np.uint16)
                    make_dicom(stored, "CT" if modality == "BT" else "MR", -shift).save_as(
                        buffer, enforce_file_format=True
                    )
                written.append((buffer.getvalue(), modality))
    return written


def make_dicom(stored: NDArray[np.uint16], modality: str, intercept: int) -> FileDataset:
    """The least that a DICOM file of one slice holds."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset("", {}, file_meta=meta)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Modality, file.PhotometricInterpretation, file.SamplesPerPixel = modality, "MONOCHROME2", 1
    file.Rows, file.Columns = stored.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.RescaleSlope, file.RescaleIntercept = 1, intercept
    file.PixelData = stored.tobytes()
    return file


def measure_framing(kind: Literal["JPEG", "DICOM"], bar: str) -> Row:
    """Files to squares with a crop to the head over the same without, both in the canonical rendering: CPU time."""
    files = write_slices(kind)
    head, whole = (ResNetViT(**PRESETS["tiny"], framing=framing) for framing in ("head", "whole"))

    def decode(model: ResNetViT) -> None:
        for content, modality in files:
            frame_slice(model, load_slices(content, modality=modality)[0])

    pairs = time_in_turns(lambda: decode(head), lambda: decode(whole), rounds=7, clock=time.process_time)
    rate = len(files) / statistics.median(ours for ours, _ in pairs)
    return describe_ratios(f"framing_{kind.lower()}", pairs, bar, slices=len(files), per_second=rate)


def benchmark_train(*, data_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None) -> list[Row]:
    """Measure training against a plain notebook: input, step, epoch, memory. About 3 minutes on two calm cores.

    Args:
        data_dir: a dataset folder in the Kaggle layout; by default slices are simulated for it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["STROKE_HUB_CACHE"] = str(Path(scratch) / "squares")
        records = read_records(data_dir or write_sample(Path(scratch) / "sample", patients=200))
        table = records.part("train")
        table = table.sample(min(SLICES, len(table)), random_state=0, ignore_index=True)
        say(f"{len(table)} slices of {data_dir or 'simulated patients'}")
        epoch, bar = (
            table.sample(min(EPOCH, len(table)), random_state=0, ignore_index=True),
            ">= 5" if GPU else ">= 1.1",
        )
        return [
            measure_framing("JPEG", "<= 1.3"),
            measure_framing("DICOM", "none"),
            *measure_pipeline(records.root, table),
            measure_step(records.root, table),
            measure_epoch(records.root, epoch, "compact", bar, batch_size=BATCH, rounds=3),
            measure_epoch(records.root, epoch, "compact", bar, batch_size=BATCH, rounds=3, fast=True),
            measure_epoch(records.root, table, "tiny", "none", batch_size=32, rounds=3),
            measure_memory(records.root, table),
        ]
