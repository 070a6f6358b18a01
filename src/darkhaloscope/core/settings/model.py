"""`[model.NAME]`: the network, what it is trained on, and how."""

from typing import Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.schemas import KINDS, MINED
from darkhaloscope.core.settings.base import StageConfig
from darkhaloscope.core.settings.manifest import ManifestConfig
from darkhaloscope.core.settings.stamps import StampsConfig

MOST_HALO_RINGS = 0.02  # of the mix: they are no shape of the sky


class ModelConfig(StageConfig):
    """One network: what it is, what it sees, and how it is trained."""

    manifest: ManifestConfig
    """`[manifest]`, by which injections are drawn afresh; not written here but handed over."""
    stamps: StampsConfig
    """`[stamps]`, by which they are painted; not written here but handed over."""

    seed: int
    """Seed of the first weights, of the order of stamps, of their turns and shifts."""
    network: Literal["small", "resnet18", "resnet18_first_run"]
    """`small` (0.12 GMAC a stamp), `resnet18` (0.15), or the first run's `resnet18_first_run`
    (2.22: stem without stride or pooling)."""
    head: Literal["binary", "kinds"]
    """`binary`: one logit, lens or not. `kinds`: a value for lens and for each kind of the mix,
    taught with their cross-entropy; the score is the logit of a lens against all of them."""
    data: Literal["cutouts", "stamps"]
    """`cutouts`: injections are drawn afresh for every epoch and made on the device. `stamps`: the
    train set that stage `stamps` wrote, the same in every epoch."""
    normalisation: Literal["asinh", "first_run"]
    """`asinh` of nanomaggies over a fixed softening; or each stamp's own median and MAD, clipped
    at +-10, which leaks the presence of an arc and is there to be compared with."""
    softening_nmgy: dict[str, float]
    """Per band, where asinh turns from linear to logarithmic; about the noise of a pixel. Needed
    by `asinh` alone."""
    max_shift_px: int = Field(ge=0, le=8)
    """Largest shift of a training stamp along each axis, whole pixels."""
    mix: dict[str, float] = Field(min_length=2)
    """Share of each kind in a training batch; kinds that are not named are not trained on. `mined`
    is the galaxies that earlier rounds of mining took for lenses, as observed, each with its own
    weight in the loss; where there are none, as in round 0, its share goes to the others. At most
    2 % of the others may be `halo_ring`."""
    positive_weight: float = Field(gt=0, le=1000)
    """Weight of a lens in the loss over that of a negative; 1: none. With the head `kinds` all
    negatives weigh alike, of whatever kind."""

    max_epochs: int = Field(ge=1, le=10000)
    """Epochs of the schedule; early stopping may end it before."""
    epoch_stamps: int = Field(ge=1)
    """Stamps in an epoch, all kinds together."""
    batch_size: int = Field(ge=2, le=65536)
    """Stamps in a step."""
    learning_rate: float = Field(gt=0, le=1)
    """Of AdamW, at its highest."""
    weight_decay: float = Field(ge=0, le=1)
    """Of AdamW."""
    schedule: Literal["cosine", "constant"]
    """How the learning rate goes on after the warm-up: down to 0, or not at all."""
    warmup_steps: int = Field(ge=0)
    """Steps over which the learning rate rises from 0."""
    ema_decay: float = Field(ge=0, lt=1)
    """Share that the running average of the weights keeps at each step; 0: the weights themselves
    are validated and kept."""
    gradient_clip: float = Field(gt=0)
    """Largest norm of a step's gradient; inf: any."""
    monitor: Literal["val_loss", "val_auroc", "val_completeness"]
    """What makes an epoch the best, on the validation stamps: the lowest loss (with the head
    `kinds` the cross-entropy of the kinds), the highest area under the ROC, or the highest
    completeness at a false-positive rate of 1 %. The loss asks for val's own share of lenses and
    faint arcs: with a broad prior in train its lowest value comes epochs before the best order."""
    round_start: Literal["afresh", "previous"] | None = None
    """How rounds of mining after the first begin: `afresh` with the first weights of round 0, or
    with those that the round before ended with. Needed by a model that is mined for."""
    patience: int = Field(ge=1)
    """Epochs without a better one after which training stops; max_epochs: all are run."""
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    """Of the convolutions in training; `auto` takes bf16 where the processor has it, fp16 on older
    GPUs, else fp32. Scores are always computed in fp32."""

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        trained = [*(kind for kind in KINDS if kind != "sky"), MINED]
        unknown = sorted(set(self.mix) - set(trained))
        if unknown:
            raise ValueError(f"mix names {unknown}; kinds that can be trained on are {trained}")
        if any(share < 0 for share in self.mix.values()):
            raise ValueError(f"shares of the mix must be >= 0; got {self.mix}")
        unmined = sum(share for kind, share in self.mix.items() if kind != MINED)
        if not 0 < self.mix.get("lens", 0) < unmined:
            raise ValueError(
                f"the mix needs lenses and negatives, also where none are mined; got {self.mix}"
            )
        rings = self.mix.get("halo_ring", 0) / unmined
        if rings > MOST_HALO_RINGS * (1 + 1e-9):
            raise ValueError(
                f"halo_ring is {100 * rings:.3g} % of the mix without mined; more than "
                f"{100 * MOST_HALO_RINGS:g} % would teach that no ring is a lens: lower its share"
            )
        if self.epoch_stamps < self.batch_size:
            raise ValueError(
                f"epoch_stamps {self.epoch_stamps} does not fill a batch of {self.batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _softened(self) -> Self:
        if self.normalisation == "asinh" and set(self.softening_nmgy) != set(self.bands):
            raise ValueError(
                f"softening_nmgy must name the bands {list(self.bands)}; got "
                f"{sorted(self.softening_nmgy)}"
            )
        if any(not 0 < value < 1e3 for value in self.softening_nmgy.values()):
            raise ValueError(f"softening_nmgy must be > 0 in each band; got {self.softening_nmgy}")
        return self
