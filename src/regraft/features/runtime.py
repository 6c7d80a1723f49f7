"""Runtimes: run a frozen backbone over images, as fast as this machine can.

OpenVINO on CPUs, with f32 asked for explicitly (its own default on processors with AMX is bf16), one
inference thread a stream and one image a request: each image's features then do not depend on which images
it came with, nor on how many cores there are. Eager torch is the fallback, and the runtime on CUDA.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from regraft.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray
    from torch import nn

    from regraft.backbones.preprocessing import Preprocessing

    Load = Callable[[int], Iterable[tuple[int, NDArray[np.uint8]]]]
    OnRow = Callable[[int, NDArray[np.float32]], None]

T = TypeVar("T")

PRECISIONS = ("f32", "bf16")
_AHEAD = 32
_TORCH_BATCH = {"cuda": 64, "cpu": 8}


def _in_order(pool: ThreadPoolExecutor, work: Callable[[int], T], count: int) -> Iterator[T]:
    """Results of `work(0) .. work(count - 1)`, in order, while only a bounded number waits in memory."""
    waiting: deque[Future[T]] = deque()
    try:
        for position in range(count):
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, position))
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class Runtime(Protocol):
    """A frozen backbone that is ready to run.

    Attributes:
        name: "openvino" or "torch".
        precision: what really runs: "f32" or "bf16".
        device: what it runs on, for people.
    """

    name: str
    precision: str
    device: str

    def run(self, count: int, load: Load, on_row: OnRow) -> None:
        """Call `load(n)` for n = 0 .. count - 1 in threads, run what it gives, and tell each row once.

        Args:
            count: number of loads.
            load: gives (index, uint8 (H, W, 3)) pairs, none where there is nothing to run. Called in threads.
            on_row: told (index, features (D,)) in the calling thread, in the order of the loads.
        """
        ...


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuda_is_likely() -> bool:
    """Whether it is worth importing torch (a second) to ask it for CUDA."""
    return Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists() or shutil.which("nvidia-smi") is not None


def import_openvino() -> Any:
    """OpenVINO, kept from reporting its use: its package `openvino_telemetry` sends events when it is imported.

    OpenVINO goes on with its own stub where that package is absent. In a program that has imported OpenVINO before,
    this changes nothing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what Python documents for "absent"
    import openvino

    return openvino


def choose_runtime(wanted: str) -> str:
    """Resolve "auto" to the fastest runtime of this machine.

    Raises:
        OptionError: a word that is no runtime.
    """
    if wanted == "auto":
        if cuda_is_likely():
            import torch

            if torch.cuda.is_available():
                return "torch"
        return "openvino"
    if wanted not in {"openvino", "torch"}:
        raise OptionError(f"runtime {wanted!r} is unknown: use auto, openvino or torch")
    return wanted


@dataclass
class OpenVinoRuntime:
    """OpenVINO on the CPU over a converted model; normalisation happens inside the compiled network.

    Args:
        model: the converted model's .xml, float32 (1, 3, H, W) normalised -> (1, D).
        preprocessing: whose mean and std are built in.
        precision: "f32", or "bf16" where the processor has it.
    """

    model: Path
    preprocessing: Preprocessing
    precision: str = "f32"
    name: str = field(default="openvino", init=False)
    device: str = field(default="", init=False)

    def __post_init__(self) -> None:
        ov = import_openvino()
        from openvino.preprocess import PrePostProcessor

        core = ov.Core()
        network = core.read_model(self.model)
        height, width = self.preprocessing.size
        steps = PrePostProcessor(network)
        steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_shape(
            [1, height, width, 3]
        )
        steps.input().model().set_layout(ov.Layout("NCHW"))
        steps.input().preprocess().convert_element_type(ov.Type.f32).mean(
            [255.0 * m for m in self.preprocessing.mean]
        ).scale([255.0 * s for s in self.preprocessing.std])
        self._streams = cores()
        options = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "NUM_STREAMS": self._streams,
            "INFERENCE_NUM_THREADS": self._streams,
            # Decoding shares the processors, so inference threads must be free to move.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled: Any = core.compile_model(steps.build(), "CPU", options)
        actual = str(self._compiled.get_property("INFERENCE_PRECISION_HINT"))
        self.precision = "bf16" if "bf16" in actual or "bfloat16" in actual else "f32"
        self.device = str(core.get_property("CPU", "FULL_DEVICE_NAME"))

    def run(self, count: int, load: Load, on_row: OnRow) -> None:
        """See `Runtime.run`.

        Requests are waited for in turn, two a stream, so that a stream always has its next one. OpenVINO's own queue
        with Python callbacks is not used: its threads then need the interpreter's lock while it is torn down, and
        now and then that never ends.
        """
        free = [self._compiled.create_infer_request() for _ in range(2 * self._streams)]
        running: deque[tuple[Any, int]] = deque()

        def collect() -> Any:
            request, index = running.popleft()
            request.wait()
            on_row(index, np.array(request.get_output_tensor(0).data[0], np.float32))
            return request

        try:
            with ThreadPoolExecutor(self._streams, thread_name_prefix="regraft") as pool:
                for images in _in_order(pool, load, count):
                    for index, image in images:
                        request = free.pop() if free else collect()
                        request.start_async({0: image[None]})
                        running.append((request, index))
            while running:
                collect()
        finally:
            for request, _ in running:  # only after an error: nothing may run on while objects are torn down
                request.wait()


@dataclass
class TorchRuntime:
    """Eager torch in channels_last, on CUDA where there is one.

    Args:
        module: normalised float (B, 3, H, W) -> features (B, D), in eval mode.
        preprocessing: whose mean and std are applied.
        precision: "f32", or "bf16" through autocast.
    """

    module: nn.Module
    preprocessing: Preprocessing
    precision: str = "f32"
    name: str = field(default="torch", init=False)
    device: str = field(default="", init=False)

    def __post_init__(self) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.module.to(self.device).to(memory_format=torch.channels_last)
        self.module.eval().requires_grad_(requires_grad=False)

    def run(self, count: int, load: Load, on_row: OnRow) -> None:
        """See `Runtime.run`. Every batch has the same size (the last is filled up), so kernels stay the same."""
        size = _TORCH_BATCH[self.device]
        indices: list[int] = []
        batch: list[NDArray[np.uint8]] = []
        with ThreadPoolExecutor(cores(), thread_name_prefix="regraft") as pool:
            for images in _in_order(pool, load, count):
                for index, image in images:
                    indices.append(index)
                    batch.append(image)
                    if len(batch) == size:
                        self._forward(indices, batch, on_row)
                        indices, batch = [], []
        if batch:
            self._forward(indices, batch + [batch[-1]] * (size - len(batch)), on_row)

    def _forward(self, indices: list[int], batch: list[NDArray[np.uint8]], on_row: OnRow) -> None:
        import torch

        inputs = torch.from_numpy(self.preprocessing.normalise(np.stack(batch)))
        inputs = inputs.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        with (
            torch.inference_mode(),
            torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            rows = self.module(inputs).float().cpu().numpy()
        for index, row in zip(indices, rows, strict=False):  # rows of the filling are dropped
            on_row(index, row)
