"""Train a network: Lightning underneath, our data and our files around it.

The same call continues a run that was killed: `scratch` holds the last epoch's checkpoint. With one
thread the continued run ends with the same bits; with more, sums change their order. Processes that
torchrun starts train one network together (`ml.processes`).
"""

import contextlib
import ctypes
import importlib.util
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml.batches import Source, in_parts
from darkhaloscope.ml.processes import Processes, of_environment
from darkhaloscope.ml.recipe import Epoch, Precision, Recipe

LOG_FILE = "training.log"

log = logging.getLogger(__name__)

_LIGHTNING_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training leaves.

    Attributes:
        best: Weights of the best epoch, by name, on the host.
        last: Weights of the last epoch.
        chosen: The best epoch.
        history: Every epoch, in order.
    """

    best: dict[str, Tensor]
    last: dict[str, Tensor]
    chosen: Epoch
    history: tuple[Epoch, ...]


def fit(
    network: nn.Module,
    training: Source,
    validation: Source,
    *,
    recipe: Recipe,
    scratch: Path,
    device: Device,
) -> Fitted:
    """Train `network` in place, continuing from `scratch` where it holds a checkpoint.

    Args:
        network: On any device; it is moved to `device`.
        training: Batches of every epoch.
        validation: Batches that are the same in every epoch, with lenses and negatives.
        recipe: How.
        scratch: Folder for the checkpoint, `history.csv` and `training.log`; one folder serves one
            training. Several processes share it, and the first writes.
        device: Where; of several processes each has its own (`Processes.device_of`).

    Returns:
        The same in all processes.

    Raises:
        DataError: a loss is not finite, or validation lacks lenses or negatives.
        ConfigError: Lightning is not installed, the device cannot compute in that precision, or the
            batches cannot be shared by the processes.
    """
    if importlib.util.find_spec("lightning") is None:
        raise ConfigError("training needs Lightning: pip install 'darkhaloscope[nets]'")
    threads = max(1, device.threads - training.makers)
    processes = of_environment()
    training, validation = in_parts(training, validation, processes)
    file = _log_file(scratch / LOG_FILE) if processes.is_first else contextlib.nullcontext()
    with file, _quiet_lightning(), _threads(threads):
        from darkhaloscope.ml import loop

        precision = precision_on(device, recipe.precision)
        module = loop.Training(network, training, validation, recipe, processes)
        module.to(memory_format=torch.channels_last)
        each_epoch = loop.EachEpoch(module, scratch)
        checkpoint = each_epoch.restore()
        log.info("training in %s on %s, %d thread(s)", precision, device.name, threads)
        if not recipe.is_finished(each_epoch.history):
            trainer = _trainer(each_epoch, recipe, device, precision, processes)
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        history = tuple(each_epoch.history)
        return Fitted(each_epoch.best, loop.weights(module), recipe.best(history), history)


def precision_on(device: Device, asked: Precision) -> Literal["fp32", "bf16", "fp16"]:
    """The precision of the convolutions on this device.

    Raises:
        ConfigError: the device cannot compute in the one asked for.
    """
    if device.name.startswith("cuda"):
        best: Literal["bf16", "fp16"] = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        return best if asked == "auto" else asked
    if asked == "fp16":
        raise ConfigError('precision = "fp16" needs a GPU; on a CPU use "auto", "bf16" or "fp32"')
    if asked == "auto":
        return "bf16" if _cpu_computes_bf16() else "fp32"
    return asked


def _cpu_computes_bf16() -> bool:
    """Whether bf16 has instructions of its own here; emulated, it is slower than fp32."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("amx_tile"))


def _trainer(
    each_epoch: Any, recipe: Recipe, device: Device, precision: str, processes: Processes
) -> Any:
    from lightning.pytorch import Trainer

    return Trainer(
        **_together(processes, is_gpu=device.name.startswith("cuda")),
        default_root_dir=each_epoch.folder,
        accelerator="gpu" if device.name.startswith("cuda") else "cpu",
        precision=_LIGHTNING_PRECISION[precision],
        max_epochs=recipe.max_epochs,
        gradient_clip_val=recipe.gradient_clip if math.isfinite(recipe.gradient_clip) else None,
        callbacks=[each_epoch],
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _together(processes: Processes, *, is_gpu: bool) -> dict[str, Any]:
    """What Lightning is told of the processes that train together."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    if processes.count == 1:
        return {"plugins": [LightningEnvironment()], "devices": 1}  # also inside a cluster's job
    return {
        "plugins": [TorchElasticEnvironment()],
        "devices": processes.local_count,
        "num_nodes": processes.count // processes.local_count,
        "strategy": DDPStrategy(process_group_backend="nccl" if is_gpu else "gloo"),
        "sync_batchnorm": is_gpu,
        "use_distributed_sampler": False,
    }


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use `count` threads for the network, and treat denormal numbers, which are slow, as 0."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # torch tells nobody how it was; off is its default
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """Ask glibc not to hand freed buffers back to the kernel and fetch them again at every step.

    With its defaults a large part of the time goes into the kernel's clearing of pages. Elsewhere
    than on glibc, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # of malloc.h
        mallopt(mmap_threshold, 32 << 20)  # the largest that glibc takes
        mallopt(trim_threshold, (1 << 31) - 1)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice off the terminal: what a person must know is in our own lines."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|torch)\..*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import lightning.pytorch  # noqa: F401  (it sets the levels of its loggers)

        names = ("lightning.pytorch", "lightning.fabric")
        levels = [logging.getLogger(name).level for name in names]
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in zip(names, levels, strict=True):
                logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Write this package's lines to a file too, after those of a run that was stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    ours = logging.getLogger("darkhaloscope.ml")
    before = ours.level
    ours.addHandler(handler)
    if not ours.isEnabledFor(logging.INFO):
        ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before)
        handler.close()
