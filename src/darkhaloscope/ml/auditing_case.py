"""What is audited: a network, its scores of a set and of the sky, and where stamps are painted."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.evaluate.audit_judge import Judge
from darkhaloscope.ml.auditing import Studio, one_a_galaxy

Images = NDArray[np.float32]
Values = NDArray[np.float64]


class Network(Protocol):
    """What is audited; `ml.saved.SavedModel` is one."""

    def logits(self, pixels: Tensor, sky_median: Tensor) -> Tensor:
        """Of stamps (n, band, y, x) in nmgy and their sky level (n, band): (n,)."""
        ...

    def features(self, pixels: Tensor, sky_median: Tensor) -> Tensor:
        """Of the same, what the last layer sees: (n, feature)."""
        ...


@dataclass(frozen=True)
class Case:
    """One audit.

    Attributes:
        network: The network.
        scores: Of the sets val and calib and of the sky, without galaxies of the split `test`.
        manifest: Rows of the set's split.
        splits: Magnitudes of all targets.
        studio: Where rows are painted and scored.
        judge: How rows are judged.
        config: Settings, as `[audit]` has them.
    """

    network: Network
    scores: pa.Table
    manifest: pa.Table
    splits: pa.Table
    studio: Studio
    judge: Judge
    config: Any

    @cached_property
    def in_set(self) -> pa.Table:
        """Scores of the set's stamps."""
        return self.scores.filter(pc.equal(self.scores["set"], self.config.set))

    def sky(self, *splits: str) -> pa.Table:
        """Scores of plain cutouts of some splits' galaxies."""
        of_sky = self.scores.filter(pc.equal(self.scores["set"], "sky"))
        return of_sky.filter(pc.is_in(of_sky["split"], value_set=pa.array(splits)))

    def scored(self, kind: str) -> pa.Table:
        """Scores of the set's stamps of one kind."""
        return self.in_set.filter(pc.equal(self.in_set["kind"], kind))

    def drawn(self, kind: str) -> pa.Table:
        """Rows of the set's manifest of one kind."""
        return self.manifest.filter(pc.equal(self.manifest["kind"], kind))

    def sample(self, rows: pa.Table, most: int) -> pa.Table:
        """One row a galaxy; the same galaxies wherever two tables have them."""
        return one_a_galaxy(rows, most, seed=self.config.seed, stream="audit sample")

    def is_headline(self, rows: pa.Table) -> NDArray[np.bool_]:
        """Which scores are of the headline stratum, (n,)."""
        config = self.config
        ratio, snr = (numbers(rows, n) for n in ("theta_e_over_fwhm_r", self.snr_column))
        resolved = ratio >= config.headline_theta_e_over_fwhm_r_min
        return np.asarray(resolved & (snr >= config.headline_arc_snr_min))

    @property
    def snr_column(self) -> str:
        """Column of the arc S/N that defines the headline stratum."""
        return f"arc_snr_{self.config.arc_snr_band}"

    def cutouts(self, rows: pa.Table) -> Images:
        """Plain cutouts of some galaxies, cut to a stamp, (n, band, y, x)."""
        if not rows.num_rows:
            return self._none
        whole = self.studio.pixels.cutouts(rows["target_id"].to_numpy())
        size = self.config.stamps.size_px
        edge = (whole.shape[-1] - size) // 2
        return whole[:, :, edge : edge + size, edge : edge + size]

    def stamps(self, rows: pa.Table) -> Images:
        """Stamps as they are stored, (n, band, y, x)."""
        if not rows.num_rows:
            return self._none
        return self.studio.pixels.stamps(rows["stamp_id"].to_numpy())

    @cached_property
    def edge_px(self) -> int:
        """Pixels of a cutout before a stamp's first."""
        first = self.manifest["target_id"].to_numpy()[:1]
        return int(self.studio.pixels.cutouts(first).shape[-1] - self.config.stamps.size_px) // 2

    @property
    def _none(self) -> Images:
        size = self.config.stamps.size_px
        return np.zeros((0, len(self.config.bands), size, size), np.float32)


def numbers(table: pa.Table, name: str) -> Values:
    """A column as float64, NaN where null."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)
