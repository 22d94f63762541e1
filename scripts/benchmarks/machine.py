"""What the machine is and how fast it can be: the rates of which every floor is made, and the work that is counted.

A floor is the value that a row would have if its time were that of the counted operations, or of the bytes, alone:
floating-point operations of matrix products and convolutions at the rate of one large matrix product, bytes at the
rate of reading a file that is in memory already. A rate is measured once a process and clock, not once for all:
beside a row in CPU seconds stands a floor in CPU seconds, and both were measured under the same load.
"""

import functools
import importlib.metadata
import importlib.util
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from benchmarks.timing import DEVICE, Clock, Row
from torch.utils.flop_counter import FlopCounterMode

from stroke_hub.inference.onnx_model import count_cores

SIDE = 1536  # of the square matrices: larger ones are no faster
BYTES = 2**28  # that are copied and read: past every cache of the processor
REPEATS = 8
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
INSTRUCTIONS += ("asimd", "sve", "i8mm", "bf16")  # Arm's
PACKAGES = ("torch", "onnxruntime", "timm", "gradio", "numpy")

Precision = Literal["fp32", "bf16", "int8"]


def describe_machine() -> dict[str, Any]:
    """What answers here: processor, instruction sets that matter, cores, memory, versions, load average."""
    processor, flags = _read_processor()
    return {
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "processor": processor,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": count_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    } | {name: _find_version(name) for name in PACKAGES}


def _read_processor() -> tuple[str, set[str]]:
    """The name and the flags that Linux tells; elsewhere the architecture alone."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return told.get("model name", platform.machine()), set(told.get("flags", told.get("Features", "")).split())


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- work ---------------------------------------------------------------------------------------------------


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions, backward included."""
    return sum(count_flops_apart(call))


def count_flops_apart(call: Callable[[], object]) -> tuple[int, int]:
    """The same of convolutions, and of all else."""
    with FlopCounterMode(display=False) as counter:
        call()
    by_operation = counter.get_flop_counts().get("Global", {})
    convolutions = sum(flops for name, flops in by_operation.items() if "convolution" in str(name))
    return convolutions, sum(by_operation.values()) - convolutions


# --- rates --------------------------------------------------------------------------------------------------


def measure_shortest(call: Callable[[], object], clock: Clock) -> float:
    """Seconds of the fastest of some calls, after one that counts for nothing."""
    call()
    seconds = []
    for _ in range(REPEATS):
        start = clock()
        call()
        seconds.append(clock() - start)
    return min(seconds)


@functools.cache
def measure_torch_rate(threads: int, clock: Clock, precision: Precision = "fp32") -> float:
    """Operations a second of torch's matrix product on the CPU, the fastest of some."""
    a = torch.randn(SIDE, SIDE, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return 2 * SIDE**3 / measure_shortest(lambda: a @ a, clock)
    finally:
        torch.set_num_threads(before)


@functools.cache
def measure_onnx_rate(threads: int, clock: Clock, precision: Precision = "fp32") -> float:
    """Operations a second of onnxruntime's matrix product with a constant; int8: of bytes with signed bytes."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    generator, whole = np.random.default_rng(0), precision == "int8"
    if whole:  # 7 bits, as the export has them: instructions without VNNI would saturate
        x = generator.integers(0, 255, (SIDE, SIDE), dtype=np.uint8)
        constant = generator.integers(-64, 64, (SIDE, SIDE), dtype=np.int8)
    else:
        x, constant = generator.standard_normal((2, SIDE, SIDE), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger" if whole else "MatMul", ["x", "constant"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8 if whole else TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32 if whole else TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(constant, "constant")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return 2 * SIDE**3 / measure_shortest(lambda: session.run(None, {"x": x}), clock)


@functools.cache
def measure_read_rate(clock: Clock) -> float:
    """Bytes a second of reading a file that is in the page cache: no disk is asked."""
    buffer = bytearray(BYTES)
    with tempfile.NamedTemporaryFile() as file:
        file.write(buffer)
        file.flush()

        def read() -> None:
            with open(file.name, "rb", buffering=0) as handle:
                while handle.readinto(buffer):
                    pass

        return BYTES / measure_shortest(read, clock)


def measure_copy_rate() -> float:
    """Bytes a second that one core copies from memory to memory."""
    source = np.ones(BYTES, np.uint8)
    target = np.empty_like(source)
    return BYTES / measure_shortest(lambda: np.copyto(target, source), time.process_time)


def has_onnx() -> bool:
    """Whether the rates of onnxruntime can be measured."""
    return importlib.util.find_spec("onnx") is not None


def benchmark_machine() -> list[Row]:
    """The machine's own rates, of which floors are made: matrix products, copying, reading from the page cache.

    What runs on one core is measured by its CPU time, which other programs do not lengthen; what runs on all, by
    the clock on the wall.
    """
    rates = {}
    clocks = {"one_core": (1, time.process_time), "all_cores": (count_cores(), time.perf_counter)}
    for words, (threads, clock) in clocks.items():
        for precision in ("fp32", "bf16"):
            rates[f"torch_{precision}_gflops_{words}"] = measure_torch_rate(threads, clock, precision) / 1e9
        for precision in ("fp32", "int8") if has_onnx() else ():
            rates[f"onnxruntime_{precision}_gflops_{words}"] = measure_onnx_rate(threads, clock, precision) / 1e9
    rates["memory_copy_gib_a_second"] = measure_copy_rate() / 2**30
    rates["page_cache_read_gib_a_second"] = measure_read_rate(time.process_time) / 2**30
    return [{"row": row, "value": rate, "bar": "none"} for row, rate in rates.items()]
