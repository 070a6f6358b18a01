"""A training step on a device: nothing comes back to the host, and each number goes there once.

There need be no GPU: on torch's device `meta` there are shapes and no values, so that whatever
would have to wait for a value fails, as do copies to the host.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import manifest_builders as mb
import numpy as np
import pyarrow as pa
import pytest
import torch
from ml_builders import recipe
from torch.utils._python_dispatch import TorchDispatchMode

from darkhaloscope.core.contracts import Device
from darkhaloscope.core.settings.stamps import StampsConfig
from darkhaloscope.data.pixels import Layout
from darkhaloscope.lensing.bank import Bank
from darkhaloscope.lensing.profiles import checked
from darkhaloscope.ml import loop, manifesting, networks
from darkhaloscope.ml.batches import Drawn, Plan
from darkhaloscope.ml.fresh import Injections
from darkhaloscope.ml.injection import Pieces
from darkhaloscope.ml.pixel_table import PixelTable
from darkhaloscope.ml.transforms import Normalisation

N = 12
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")
PAINTING = {
    "bands": mb.BANDS,
    "pixel_scale_arcsec": mb.SCALE,
    "seed": 2,
    "size_px": 64,
    "sets": ("val",),
    "psf_profile": "moffat",
    "psf_beta": (2.9, 2.9, 2.9),
    "electrons_per_nmgy_per_exposure": (3500.0, 3500.0, 3500.0),
}


@pytest.fixture(autouse=True)
def _no_autocast_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` has no autocast; it would change types only."""
    plain = torch.autocast

    def autocast(device: str, *args: Any, **kwargs: Any) -> Any:
        return contextlib.nullcontext() if device == "meta" else plain(device, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", autocast)


class Watched(TorchDispatchMode):
    """Refuses what waits for the device, and counts what is sent there."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.sent = device, 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given = [arg for arg in torch.utils._pytree.tree_leaves((args, kwargs)) if is_tensor(arg)]
        there = [arg for arg in given if arg.device.type == self.device]
        if there:
            assert name not in WAITS, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_") and there:
            masks = [at for at in args[1] if at is not None and at.dtype == torch.bool]
            assert not masks, f"{name} with a mask waits for the device"
        made = func(*args, **kwargs)
        if is_tensor(made) and given and name in ("_to_copy", "copy_"):
            start, end = given[-1].device.type, made.device.type
            assert end == self.device or start != self.device, f"{name} copies to the host"
            self.sent += start != self.device and end == self.device
        return made


def is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def source(device: str, *, has_psfs: bool = False) -> Drawn:
    """Batches of every kind, drawn afresh."""
    splits = mb.splits(N, split="train")
    heads = mb.cutouts_head(splits)
    where = Device(device)
    noise = np.random.default_rng(1).normal(0, 0.004, (N, 3, 80, 80)).astype(np.float32)
    table = PixelTable(heads, [noise], Layout(mb.BANDS, 80, mb.SCALE), of="target_id", device=where)
    axis = np.arange(-7, 8)
    psf = np.exp(-0.1 * (axis[:, None] ** 2 + axis**2)).astype(np.float32)
    psfs = PixelTable(
        heads,
        [np.tile(psf / psf.sum(), (N, 3, 1, 1))],
        Layout(mb.BANDS, 15, mb.SCALE),
        of="target_id",
        device=where,
    )
    painting = {**PAINTING, "psf_profile": "image" if has_psfs else "moffat"}
    injections = Injections(
        splits,
        table,
        mb.config(),
        StampsConfig(**painting),  # type: ignore[arg-type]
        margin_px=4,
        device=where,
        psfs=psfs if has_psfs else None,
    )
    hosts = manifesting.hosts_of(splits, heads, mb.BANDS)
    rows = manifesting.draw(hosts, split="train", config=mb.config())
    plan = Plan(14, 56, dict.fromkeys(mb.KINDS, 1.0), 4, 64, 3)
    normalise = Normalisation("asinh", (0.01, 0.01, 0.02))
    return Drawn(rows, injections.redraw, injections.make, plan, normalise)


def steps(made: Drawn, device: str) -> Iterator[None]:
    """Training steps, one after the other, in this thread."""
    network = networks.make("small", bands=3, seed=1)
    module = loop.Training(network, made, made, recipe(max_epochs=1)).to(device)
    optimiser = torch.optim.AdamW(module.network.parameters(), 1e-3)
    for task in made._tasks(1):
        with torch.no_grad():
            (batch,) = task()
        with torch.autocast(device, torch.bfloat16):
            loss = module.training_step(batch, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        module.on_train_batch_end()
        yield


@pytest.mark.parametrize("has_psfs", [False, True])
def test_a_step_waits_for_nothing_and_sends_each_number_once(has_psfs: bool) -> None:
    made = source("meta", has_psfs=has_psfs)
    running = steps(made, "meta")
    with Watched("meta") as first:
        next(running)
    with Watched("meta") as second:
        next(running)
    # the numbers; parts; photon keys, order and places; positions, edges along x and y, sky; turns;
    # labels
    per_batch = 9 + 2 * has_psfs
    assert second.sent == per_batch
    assert first.sent >= per_batch  # constants too, which are kept


@pytest.mark.parametrize(
    "wait",
    [
        lambda at: float(at[0]),
        lambda at: bool(at.any()),
        lambda at: at.nonzero(),
        lambda at: at[at > 0],
        lambda at: at.masked_select(at > 0),
        lambda at: torch.equal(at, at + 1),
    ],
)
def test_the_watch_sees_what_waits(wait: Callable[[torch.Tensor], object]) -> None:
    at = torch.zeros(3)
    with Watched("cpu"), pytest.raises(AssertionError, match="waits for the device"):
        wait(at)
    with Watched("meta"), pytest.raises((AssertionError, NotImplementedError, RuntimeError)):
        wait(at.to("meta"))


def test_a_copy_to_the_host_cannot_be_made() -> None:
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        torch.zeros(3, device="meta").cpu()


def test_pictures_of_galaxies_wait_for_nothing_either() -> None:
    made = source("meta")
    with checked():
        bank = Bank(
            torch.rand(4, 1, 32, 32, device="meta"),
            torch.ones(4, device="meta"),
            torch.ones(4, 1, 3, device="meta"),
        )
    injections = made.make.__self__  # type: ignore[attr-defined]
    injections._bank = bank
    lenses = made.rows.filter(pa.compute.equal(made.rows["kind"], "lens"))
    for name, value in (("src_picture", 2), ("src_is_mirrored", True)):
        at = lenses.schema.get_field_index(name)
        field = lenses.schema.field(at)
        lenses = lenses.set_column(
            at, field, pa.repeat(pa.scalar(value, field.type), lenses.num_rows)
        )
    with torch.no_grad(), Watched("meta"):
        assert injections.make(lenses).pixels.shape == (N, 3, 64, 64)


@pytest.mark.gpu
def test_a_gpu_is_waited_for_once_a_reading() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    running = steps(source("cuda"), "cuda")
    next(running)  # constants, and the kernels' own plans
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(running)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_does_not_fit_a_gpus_memory_is_painted_in_halves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = source("cpu")
    whole = list(made.batches(1))
    injections = made.make.__self__  # type: ignore[attr-defined]
    plain, sizes = injections._painted, []

    def too_large(rows: pa.Table, *where: Any) -> Any:
        sizes.append(rows.num_rows)
        if rows.num_rows > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(rows, *where)

    monkeypatch.setattr(injections, "_painted", too_large)
    for got, expected in zip(made.batches(1), whole, strict=True):
        scale = expected.stamps.abs().amax()
        assert float((got.stamps - expected.stamps).abs().amax()) <= 1e-5 * float(scale)
    assert sizes[:6] == [14, 7, 3, 3, 3, 3]
    assert max(sizes[2:]) == 3  # once halved, it stays
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [
        "the device's memory is full"
    ] * 2


def test_one_row_that_does_not_fit_is_an_error() -> None:
    def work(_part: slice) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Pieces(3).each(3, work)


def test_other_errors_are_not_taken_for_a_full_memory() -> None:
    def work(_part: slice) -> int:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        Pieces(4).each(4, work)


def test_the_loss_of_steps_on_a_device_is_read_together_and_names_the_stamp() -> None:
    made = replace(source("cpu"), normalise=Normalisation("asinh", (0.01, 0.01, 0.02)))
    module = loop.Training(networks.make("small", bands=3, seed=1), made, made, recipe())
    batches = list(made.batches(1))[:3]
    bad = int(batches[1].stamp_ids[5])
    batches[1].stamps[5] = torch.nan
    module._unread = [
        loop.Step.of(batch, module.network(batch.stamps).mean().detach(), batch.weights.sum())
        for batch in batches
    ]
    from darkhaloscope.core.errors import DataError

    with pytest.raises(DataError, match=f"stamps with pixels that are not finite: {bad}\\. Look"):
        module.read()
