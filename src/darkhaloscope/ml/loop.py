"""The training loop's own parts, in Lightning's terms. Imported where a network is trained only.

An epoch ends with a checkpoint in the scratch folder: weights, their average, the optimiser, the
schedule, the history, and the best weights, so that a kill cannot part one from another. Batches
are named by their epoch, so that a run continued from there makes the same batches as one that was
never stopped. Of several processes that train together each does all this, and the first writes.
"""

import csv
import io
import logging
import math
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from darkhaloscope.core.errors import DataError
from darkhaloscope.ml import heads, levers
from darkhaloscope.ml.batches import Batch, Ids, Source
from darkhaloscope.ml.processes import ALONE, Processes
from darkhaloscope.ml.recipe import Epoch, Recipe, validation_figures
from darkhaloscope.ml.saved import write_whole

log = logging.getLogger(__name__)

CHECKPOINT, HISTORY = "epoch.ckpt", "history.csv"
SECONDS_BETWEEN_LINES = 20.0
FORGOTTEN_STEPS = 20.0  # over which the average forgets the random start


class Batches:
    """One epoch's batches of a source; a new pass is a new epoch."""

    def __init__(self, source: Source, module: "Training", *, is_training: bool) -> None:
        """`module` knows the epoch; validation is the same in all of them."""
        self._source, self._module, self._is_training = source, module, is_training

    def __len__(self) -> int:
        """Number of batches."""
        return self._source.steps

    def __iter__(self) -> Iterator[Batch]:
        """The batches, in their named order.

        Nothing is made before the first is asked for: Lightning may begin a pass that it throws
        away, and begins the first one after a kill before it knows the epoch.
        """
        yield from self._source.batches(self._module.current_epoch if self._is_training else 0)


class Step(NamedTuple):
    """What is kept of a step until it is read: a result, and which stamps it came from.

    `value` is the loss, or the network's outputs (n,) or (n, k); `is_finite` says of each stamp
    whether all its pixels are (n,); `weight` is what all stamps of the step weigh in the loss. They
    stay on the device.
    """

    value: Tensor
    is_finite: Tensor
    stamp_ids: Ids
    weight: Tensor

    @classmethod
    def of(cls, batch: Batch, value: Tensor, weight: Tensor) -> "Step":
        """A step on a batch."""
        is_finite = batch.stamps.sum((1, 2, 3)).isfinite()
        return cls(value, is_finite, batch.stamp_ids, weight)


class Training(LightningModule):
    """One network, its running average, and how a step is taken."""

    positive_weight: Tensor

    def __init__(
        self,
        network: nn.Module,
        training: Source,
        validation: Source,
        recipe: Recipe,
        processes: Processes = ALONE,
    ) -> None:
        """`network` is trained in place; the average is what is validated and kept.

        `processes` train together; the sources give this one's part.
        """
        super().__init__()
        self.processes = processes
        self.network = network
        self.average = deepcopy(network).requires_grad_(requires_grad=False)
        self._training, self._validation, self.recipe = training, validation, recipe
        self.figures: dict[str, float] = {}
        self.loss_sum, self.weight_sum, self.stamps = 0.0, 0.0, 0
        self._unread: list[Step] = []
        self._seen: list[tuple[Step, Tensor, Tensor]] = []
        weight = torch.tensor(recipe.positive_weight)
        self.register_buffer("positive_weight", weight, persistent=False)

    def train_dataloader(self) -> Batches:
        """The batches of the epoch that begins."""
        return Batches(self._training, self, is_training=True)

    def val_dataloader(self) -> Batches:
        """The validation stamps, always the same."""
        return Batches(self._validation, self, is_training=False)

    def transfer_batch_to_device(self, batch: Batch, *_where: object) -> Batch:
        """Sources make their batches where the network lives."""
        return batch

    def configure_optimizers(self) -> Any:
        """AdamW, with the rate of the recipe at every step."""
        recipe = self.recipe
        optimiser = torch.optim.AdamW(
            self.network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        total = recipe.max_epochs * self._training.steps
        rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: recipe.rate(step, total))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's mean loss."""
        self.loss_sum, self.weight_sum, self.stamps, self._unread = 0.0, 0.0, 0, []

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Loss of one batch; it has to be finite.

        On a GPU it is read later, some steps together: to read it is to wait for the step.
        """
        weight = self.processes.sum(batch.weights.sum())
        loss = self.loss_of(self.network(*batch.seen), batch, weight)
        value = self.processes.sum(loss) / self.processes.count
        self._unread.append(Step.of(batch, value, weight))
        if loss.device.type == "cpu":
            self.read()
        return loss

    def loss_of(self, outputs: Tensor, batch: Batch, weight: Tensor) -> Tensor:
        """What the step is taken on, a scalar.

        The processes' gradients are averaged: that of the whole batch is the mean of theirs where
        each divides its sum by its share of `weight`, what all stamps of the batch weigh.
        """
        recipe, count = self.recipe, self.processes.count
        loss = heads.loss(
            outputs,
            batch.labels,
            batch.classes,
            batch.weights,
            self.positive_weight,
            focal_gamma=recipe.focal_gamma if recipe.loss == "focal" else 0.0,
            total=weight / count,
        )
        if not recipe.tail_weight:
            return loss
        logits, labels, weights = (
            self.processes.joined(values)
            for values in (heads.lens_logit(outputs), batch.labels, batch.weights)
        )
        tail = levers.tail(logits, labels, weights, recipe.tail_share)
        # of the whole batch: each process has its value, and the slope of its own part of it
        return loss + recipe.tail_weight * (tail * count - tail.detach() * (count - 1))

    def read(self) -> None:
        """Take the losses of the steps since the last reading from the device, in one copy.

        Raises:
            DataError: one is not finite; the message names the stamps.
        """
        steps, self._unread = self._unread, []
        numbers = [torch.stack([step.value, step.weight]) for step in steps]
        values = torch.stack(numbers).tolist() if steps else []
        for step, (value, weight) in zip(steps, values, strict=True):
            if not math.isfinite(value):
                raise DataError(_not_finite("training loss", value, step, self.current_epoch))
            self.loss_sum += value * weight
            self.weight_sum += weight
            self.stamps += len(step.stamp_ids) * self.processes.count

    def on_train_batch_end(self, *_what: object) -> None:
        """Move the average towards the network; without a decay, all the way."""
        steps = self.global_step
        keep = min(self.recipe.ema_decay, steps / (steps + FORGOTTEN_STEPS))
        with torch.no_grad():
            pairs = zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            )
            for average, value in pairs:
                if average.is_floating_point():
                    average.lerp_(value, 1.0 - keep)
                else:
                    average.copy_(value)

    def on_validation_epoch_start(self) -> None:
        """Forget the validation before; a loss that was not finite is no validation's fault."""
        self.read()
        self._seen = []

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Keep the averaged network's outputs."""
        step = Step.of(batch, self.average(*batch.seen).float(), batch.weights.sum())
        self._seen.append((step, batch.labels, batch.classes))

    def on_validation_epoch_end(self) -> None:
        """Loss, AUROC and completeness over the validation stamps."""
        steps, of_labels, of_classes = zip(*self._seen, strict=True)
        seen = (torch.cat([step.value for step in steps]), *map(torch.cat, (of_labels, of_classes)))
        outputs, labels, classes = (self.processes.interleaved(values).cpu() for values in seen)
        if not bool(outputs.isfinite().all()):
            bad = next((s for s in steps if not bool(s.value.isfinite().all())), steps[0])
            raise DataError(_not_finite("validation", math.nan, bad, self.current_epoch))
        losses = heads.losses(outputs.double(), labels.double(), classes)
        logits = heads.lens_logit(outputs)
        self.figures = validation_figures(logits.numpy(), labels.numpy(), losses.numpy())

    def mean_loss(self) -> float:
        """Training loss per stamp over the epoch so far, each counted by its weight."""
        self.read()
        return self.loss_sum / self.weight_sum if self.weight_sum else 0.0


class EachEpoch(Callback):
    """What is kept and said after each epoch, and when to stop."""

    def __init__(self, module: Training, folder: Path) -> None:
        """`folder` holds the checkpoint and the history."""
        self._module, self._recipe, self.folder = module, module.recipe, folder
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self._began = self._said = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """History and best weights go into the checkpoint."""
        return {"history": [asdict(epoch) for epoch in self.history], "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """They come back."""
        self.history = [Epoch(**epoch) for epoch in state_dict["history"]]
        self.best = {name: value.cpu() for name, value in state_dict["best"].items()}

    def restore(self) -> str | None:
        """Take weights and history from the checkpoint; its path, or None where there is none."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        held = torch.load(path, map_location="cpu", weights_only=True)
        self._module.load_state_dict(held["state_dict"])
        self.load_state_dict(held["callbacks"][self.state_key])
        log.info("continuing after epoch %d", len(self.history))
        return str(path)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._began = self._said = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One line now and then."""
        now = time.monotonic()
        if now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            log.info(
                "epoch %d of %d, step %d of %d: training loss %.4f",
                *(trainer.current_epoch + 1, self._recipe.max_epochs),
                *(batch_idx + 1, trainer.num_training_batches, self._module.mean_loss()),
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write history and checkpoint, then decide."""
        epoch = self._epoch(trainer)
        self.history.append(epoch)
        log.info("%s", epoch)
        path, is_first = self.folder / CHECKPOINT, self._module.processes.is_first
        if self._recipe.best(self.history) is epoch:
            self.best = weights(self._module)
        if is_first:
            self._write_history()
            write_whole(path, trainer.save_checkpoint)
        else:  # all have to call it, so that the first can collect the state; it alone writes
            trainer.save_checkpoint(path)
        trainer.should_stop = self._recipe.is_finished(self.history)

    def _epoch(self, trainer: Trainer) -> Epoch:
        module, seen = self._module, sum(epoch.stamps for epoch in self.history)
        return Epoch(
            epoch=trainer.current_epoch,
            train_loss=module.mean_loss(),
            **module.figures,
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            stamps=module.stamps,
            stamps_seen=seen + module.stamps,
            seconds=time.monotonic() - self._began,
        )

    def _write_history(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in self.history)
        write_whole(self.folder / HISTORY, lambda at: Path(at).write_text(text.getvalue()))


def weights(module: Training) -> dict[str, Tensor]:
    """The weights that are kept: the running average, on the host."""
    state = module.average.state_dict()
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _not_finite(what: str, value: float, step: Step, epoch: int) -> str:
    """One message that names the stamps: those with bad pixels, else the whole batch."""
    is_bad = ~step.is_finite.cpu().numpy()
    named = step.stamp_ids[is_bad] if is_bad.any() else step.stamp_ids
    which = "stamps with pixels that are not finite" if is_bad.any() else "all stamps of the batch"
    return (
        f"{what} is {value:g} in epoch {epoch + 1}; {which}: "
        f"{', '.join(str(stamp) for stamp in named)}. Look at their pixels and PSF in cutouts and "
        'their rows in manifest; if they are sound, lower learning_rate or use precision = "fp32"'
    )
