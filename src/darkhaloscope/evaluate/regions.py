"""Intervals that know that galaxies of one region of the sky are alike.

Seeing, depth and dust differ from region to region, and so do the scores. The variance of a rate is
that of a delete-one jackknife over regions. Where a rate's threshold comes from the same table, the
move of the threshold enters through the slope of the curve over its own uncertainty: the jackknife
of a quantile itself is not consistent (Efron 1979). The plain interval is then widened: both
classes are worth fewer galaxies, by the ratio of the two variances (Korn & Graubard 1998), with
Student's factor for so many regions.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from darkhaloscope.evaluate import clusters
from darkhaloscope.evaluate.clusters import safe_position, student
from darkhaloscope.evaluate.rows import Flags, Floats
from darkhaloscope.evaluate.sample import Negatives, Side

ENOUGH = 10  # regions from which an interval over regions can be had
WINDOW = 1.5  # standard errors of the threshold's rank on either side, for the slope there
NARROWEST = 0.25  # of the plain variance, below which no agreement of regions is believed
LEAST = 3  # galaxies on either side, for the slope


@dataclass(frozen=True)
class Jackknife:
    """Two classes with known regions.

    Attributes:
        lenses: One class.
        negatives: The other.
    """

    lenses: Side
    negatives: Negatives

    @cached_property
    def note(self) -> str:
        """Why there is no interval over regions; empty: there is one."""
        n = min(np.count_nonzero(self._lens_parts), np.count_nonzero(self._sizes.sum(axis=1)))
        if self._n_without:
            return f"region interval not resolvable: {self._n_without:,} galaxies have no region"
        return "" if n >= ENOUGH else f"region interval not resolvable with {n} regions"

    def inflation(self, threshold: float, *, lens: float, negative: float) -> float:
        """Variance over regions of lens x TPR - negative x FPR over that of the plain interval.

        It may be below 1: what shifts both classes of a region alike moves their scores, and hardly
        the curve.

        Args:
            threshold: Where the rates are read.
            lens: Factor of the completeness.
            negative: Factor of the false-positive rate.
        """
        p = float(self.lenses.share_from(safe_position(self.lenses, threshold)))
        alone = p * (1 - p) / max(self.lenses.effective, 1)
        plain = p * (1 - p) / max(clusters.worth(self.lenses, threshold), 1)
        kept = self._kept(safe_position(self.negatives.side, threshold))
        spread = self._variance(kept.sum(axis=0))
        plain = lens**2 * plain + negative**2 * spread
        alone = lens**2 * alone + negative**2 * spread
        if plain <= 0:
            return 1.0
        left = self.without(threshold, lens=lens, negative=negative)
        wider = self.spread(left, lens, negative) + plain - alone
        return max(NARROWEST, wider / plain)

    def without(self, threshold: float, *, lens: float, negative: float) -> Floats:
        """Value of lens x TPR - negative x FPR without each region in turn, shape (r,)."""
        at = safe_position(self.lenses, threshold)
        tpr = self._tpr_without(float(self.lenses.share_from(at)), self._lens_kept(at))
        fpr = self._fpr_without(self._kept(safe_position(self.negatives.side, threshold)))
        return lens * tpr - negative * fpr

    def spread(self, left: Floats, lens: float = 1.0, negative: float = 1.0) -> float:
        """Variance by the jackknife from values without each region, with Student's factor."""
        n = len(left)
        jackknife = (n - 1) / n * float(((left - left.mean()) ** 2).sum())
        return jackknife * self._student(lens, negative)

    def auroc_without(self, beaten: Floats, residual: Floats, value: float) -> Floats:
        """Area under the curve without each region in turn, to first order, shape (r,).

        Args:
            beaten: Share of the negatives below each lens, in the order of the lenses.
            residual: What each negative adds to the area, as `Negatives.residual` gives it.
            value: The area.
        """
        members = self.lenses.members
        if members is None or members.region is None or self.negatives.region is None:
            return np.zeros(0)
        of_region = np.bincount(members.region, members.weight * (beaten - value), self._n_all)
        of_region += np.bincount(self.negatives.region, residual, self._n_all)
        of_region = of_region[self._is_there]
        n = len(of_region)
        return np.asarray(value - of_region * n / (n - 1))

    def _student(self, lens: float, negative: float) -> float:
        """Student's factor; regions of unequal size are worth fewer equal ones."""
        worth = []
        if lens:
            worth.append(1 / float((self._lens_parts**2).sum()))
        if negative:
            sizes = self._sizes.sum(axis=1)
            worth.append(float(sizes.sum() ** 2 / (sizes**2).sum()))
        return student(min(worth))

    @cached_property
    def _n_without(self) -> int:
        """Galaxies without a region."""
        members = self.lenses.members
        if members is None or members.region is None or self.negatives.region is None:
            return self.lenses.n + self.negatives.side.n
        n_lenses = len(np.unique(members.host[members.region < 0]))
        return n_lenses + int((self.negatives.region < 0).sum())

    @cached_property
    def _n_all(self) -> int:
        """Regions of the table, those of neither class among them."""
        members = self.lenses.members
        if members is None or members.region is None or self.negatives.region is None:
            return 0
        return int(max(members.region.max(initial=-1), self.negatives.region.max(initial=-1))) + 1

    @cached_property
    def _lens_parts(self) -> Floats:
        """Share of the lenses in each region, shape (r,)."""
        return self._lens_kept(0)

    @cached_property
    def _sizes(self) -> Floats:
        """Negatives of each region and kind, shape (r, k); of one kind where all weigh the same."""
        return self._count(0)

    @cached_property
    def _is_there(self) -> Flags:
        """Regions with a galaxy of either class."""
        return np.asarray((self._lens_parts > 0) | (self._sizes.sum(axis=1) > 0))

    def _lens_kept(self, at: int) -> Floats:
        """Share of all lenses that is kept and in each region."""
        members = self.lenses.members
        if members is None or members.region is None or self._n_without:
            return np.zeros(self._n_all)
        kept = np.bincount(members.region[at:], members.weight[at:], self._n_all)
        return kept.astype(np.float64)

    def _kept(self, at: int) -> Floats:
        """Negatives kept in each region and of each kind, counted from the nearer end."""
        m = len(self.negatives.side.score)
        if at < m // 2:
            return self._sizes - self._count(0, at)
        return self._count(at)

    def _count(self, first: int, last: int | None = None) -> Floats:
        n_kinds = 1 if self.negatives.is_even else len(self.negatives.names)
        if self._n_without:
            return np.zeros((self._n_all, n_kinds))
        cell = self.negatives.cell[first:last]
        counts = np.bincount(cell, minlength=self._n_all * n_kinds)
        return counts.reshape(self._n_all, n_kinds).astype(np.float64)

    def _tpr_without(self, p: float, kept: Floats) -> Floats:
        """Completeness without each region."""
        left = 1 - self._lens_parts
        tpr = np.divide(p - kept, left, out=np.zeros_like(left), where=left > 0)
        return np.asarray(tpr[self._is_there])

    def _fpr_without(self, kept: Floats) -> Floats:
        """FPR without each region; kinds keep their part of the sky."""
        size, whole = self._sizes, self._sizes.sum(axis=0)
        part = np.ones(1) if self.negatives.is_even else self.negatives.weight * whole
        left = whole - size
        rate = np.divide(kept.sum(axis=0) - kept, left, out=np.zeros_like(left), where=left > 0)
        part_left = ((left > 0) * part).sum(axis=1)
        fpr = np.divide(rate @ part, part_left, out=np.zeros_like(part_left), where=part_left > 0)
        return np.asarray(fpr[self._is_there])

    def _variance(self, kept: Floats) -> float:
        """Variance of the FPR if galaxies were independent, from the counts of each kind."""
        if not self.negatives.is_even:
            return float(self.negatives.variance(kept))
        n = max(self.negatives.side.n, 1)
        return float(kept[0] / n * (1 - kept[0] / n) / n)
