"""`[model.NAME]`: the network, what it is trained on, and how."""

from typing import Literal, Self

from pydantic import Field, model_validator

from darkhaloscope.core.schemas import KINDS, MINED, extra_inputs
from darkhaloscope.core.settings.base import Model, StageConfig
from darkhaloscope.core.settings.manifest import ManifestConfig
from darkhaloscope.core.settings.stamps import StampsConfig

MOST_HALO_RINGS = 0.02  # of the mix: they are no shape of the sky


class CurriculumConfig(Model):
    """Lenses from well resolved and bright to all, over the first part of the training.

    A lens below either limit does not count in the loss. The limits fall to 0 in proportion to the
    steps.
    """

    theta_e_over_fwhm_r: float = Field(ge=0, le=10)
    """First limit of the Einstein radius over the r-band PSF's FWHM."""
    arc_snr: float = Field(ge=0, le=1e4)
    """First limit of the S/N in g that the arc is scaled to; not for stamps from disk."""
    share: float = Field(gt=0, le=1)
    """Part of all epochs' steps over which the limits fall to 0."""


class ModelConfig(StageConfig):
    """One network: what it is, what it sees, and how it is trained."""

    manifest: ManifestConfig
    """`[manifest]`, by which injections are drawn afresh; not written here but handed over."""
    stamps: StampsConfig
    """`[stamps]`, by which they are painted; not written here but handed over."""

    seed: int
    """Seed of the first weights, of the order of stamps, of their turns and shifts."""
    network: Literal[
        "small",
        "compact",
        "resnet18",
        "resnet18_first_run",
        "efficientnetv2_s",
        "convnext_tiny",
        "vit_tiny",
    ]
    """`small` (0.12 GMAC a stamp), `compact` (0.10: residual, nothing at full resolution),
    `resnet18` (0.15), or the first run's `resnet18_first_run` (2.22: stem without stride or
    pooling). With the extra `models`: `efficientnetv2_s` (0.23), `convnext_tiny` (0.37), `vit_tiny`
    (0.35)."""
    inputs: tuple[str, ...] = ()
    """Numbers that the network is told beside the pixels, in this order; may be left out: none.
    Allowed are `psf_fwhm_<band>_arcsec`, `psf_nea_<band>_arcsec` and `depth_<band>_mag` of the
    galaxy's cutout, nothing else. The gate `metadata` has to show that they do not tell lenses from
    negatives; a galaxy that lacks one cannot be trained on or scored."""
    head: Literal["binary", "kinds"]
    """`binary`: one logit, lens or not. `kinds`: a value for lens and for each kind of the mix,
    taught with their cross-entropy; the score is the logit of a lens against all of them."""
    data: Literal["cutouts", "stamps"]
    """`cutouts`: injections are drawn afresh for every epoch and made on the device. `stamps`: the
    train set that stage `stamps` wrote, the same in every epoch."""
    normalisation: Literal["asinh", "sqrt", "first_run"]
    """`asinh` of nanomaggies over a fixed softening, or their `sqrt` with the sign kept; or, as
    `first_run`, each stamp's own median and MAD, clipped at +-10, which leaks the presence of an
    arc and is there to be compared with."""
    softening_nmgy: dict[str, float]
    """Per band, where asinh turns from linear to logarithmic, and what sqrt takes for 1; about the
    noise of a pixel. Not needed by `first_run`."""
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

    loss: Literal["cross_entropy", "focal", "class_balanced"] = "cross_entropy"
    """`cross_entropy`; `focal`: stamps that are known well count less (Lin et al. 2017);
    `class_balanced`: kinds are weighted by the effective number of their stamps in an epoch (Cui et
    al. 2019)."""
    focal_gamma: float | None = Field(default=None, gt=0, le=10)
    """Power of 1 - p in the focal loss, p the probability given to the truth; needed by it."""
    balance_beta: float | None = Field(default=None, gt=0, lt=1)
    """Of the effective number (1 - beta^n) / (1 - beta) of n stamps; needed by `class_balanced`."""
    tail_weight: float | None = Field(default=None, gt=0, le=100)
    """Weight, beside the loss, of what lenses lose against the highest negatives of a batch: the
    logistic surrogate of the partial AUC; may be left out: none."""
    tail_share: float | None = Field(default=None, gt=0, le=1)
    """Highest share of a batch's negatives that `tail_weight` is for; needed with it."""
    curriculum: CurriculumConfig | None = None
    """Lenses from well resolved and bright to all; may be left out: all from the first step."""

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
    schedule: Literal["cosine", "constant", "final_decay"]
    """How the learning rate goes on after the warm-up: down to 0, not at all, or down to 0 over the
    last fifth of the steps alone."""
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
    def _levers(self) -> Self:
        for needs, value, when in (
            (self.loss == "focal", "focal_gamma", 'loss = "focal"'),
            (self.loss == "class_balanced", "balance_beta", 'loss = "class_balanced"'),
            (self.tail_weight is not None, "tail_share", "tail_weight"),
        ):
            if needs != (getattr(self, value) is not None):
                raise ValueError(f"{value} is given with {when}, and with that alone")
        return self

    @model_validator(mode="after")
    def _told(self) -> Self:
        allowed = extra_inputs(self.bands)
        if unknown := [name for name in self.inputs if name not in allowed]:
            raise ValueError(f"inputs names {unknown}; allowed are {', '.join(allowed)}")
        if len(set(self.inputs)) < len(self.inputs):
            raise ValueError(f"inputs names one twice; got {list(self.inputs)}")
        return self

    @model_validator(mode="after")
    def _softened(self) -> Self:
        if self.normalisation != "first_run" and set(self.softening_nmgy) != set(self.bands):
            raise ValueError(
                f"softening_nmgy must name the bands {list(self.bands)}; got "
                f"{sorted(self.softening_nmgy)}"
            )
        if any(not 0 < value < 1e3 for value in self.softening_nmgy.values()):
            raise ValueError(f"softening_nmgy must be > 0 in each band; got {self.softening_nmgy}")
        return self
