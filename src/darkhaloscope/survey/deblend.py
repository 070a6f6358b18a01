"""Which pixels of a stamp belong to the galaxy in its middle, and which to its neighbours."""

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from darkhaloscope.survey.hst_catalogue import Image, Stamp

Mask = NDArray[np.bool_]

_SMOOTHING_PX, _THRESHOLD = 2.0, 1.5
_NEIGHBOUR_SHARE, _BLEND_RADII = 0.1, 2.0
_OWN_RADII = {False: 4.0, True: 2.5}  # True: the part outshines the galaxy's own
_LEVELS, _VALLEY = 12, 0.75
_MIDDLE_PX = 8


def regions(stamp: Stamp) -> tuple[NDArray[np.int32], int]:
    """Label of the object that each pixel belongs to, 0 for the sky, and the galaxy's label."""
    smooth = ndimage.gaussian_filter(stamp.image, _SMOOTHING_PX)
    threshold = _THRESHOLD * np.sqrt(_smoothed_variance(stamp))
    labels, _ = ndimage.label(smooth > threshold)
    middle = _label_at_middle(labels)
    if middle == 0:
        return labels, 0
    own = labels == middle
    peak = _peak_from_middle(smooth, own)
    parts = _separate_parts(stamp.image, smooth, own, peak, threshold)
    if not parts:
        return labels, middle
    light = np.where(own, stamp.image, 0)
    basins = _basins(smooth, own, peak, parts)
    # a blend is wider than its galaxies: the galaxy's own part says how large it is
    share = np.bincount(basins[own], light[own], minlength=len(parts) + 2)
    alone, whole = (
        half_light_px(np.where(basins == 1, light, 0), *peak),
        half_light_px(light, *peak),
    )
    others = [
        part
        for number, part in enumerate(parts, start=2)
        if _distance_of_top(smooth, part, peak)
        > min(_BLEND_RADII * whole, _OWN_RADII[share[number] > share[1]] * alone)
    ]
    if others:
        basins = _basins(smooth, own, peak, others)
        labels = np.where(own & (basins > 1), labels.max() + basins, labels)
    return labels, middle


def _smoothed_variance(stamp: Stamp) -> float:
    """Variance of the noise after the smoothing of the segmentation."""
    cf = stamp.correlation / stamp.correlation.max()
    y, x = np.indices(cf.shape)
    lag2 = (y - cf.shape[0] // 2) ** 2 + (x - cf.shape[1] // 2) ** 2
    weight = np.exp(-lag2 / (4 * _SMOOTHING_PX**2)) / (4 * np.pi * _SMOOTHING_PX**2)
    return float(stamp.variance * (cf * weight).sum())


def _label_at_middle(labels: NDArray[np.int32]) -> int:
    """The region at the middle of the stamp, or the nearest within 8 px; 0: there is none."""
    y, x = np.indices(labels.shape)
    away = np.hypot(y - (labels.shape[0] - 1) / 2, x - (labels.shape[1] - 1) / 2)
    away[labels == 0] = np.inf
    nearest = np.unravel_index(np.argmin(away), away.shape)
    return int(labels[nearest]) if away[nearest] <= _MIDDLE_PX else 0


def _peak_from_middle(smooth: Image, own: Mask) -> tuple[int, int]:
    """The top of the hill on which the stamp's middle, or the region's pixel nearest it, stands.

    The brightest pixel of all might be a neighbour's.
    """
    y, x = np.indices(own.shape)
    away = np.hypot(y - (own.shape[0] - 1) / 2, x - (own.shape[1] - 1) / 2)
    at = np.unravel_index(np.argmin(np.where(own, away, np.inf)), own.shape)
    row, column = int(at[0]), int(at[1])
    while True:
        near = smooth[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        up, right = np.unravel_index(np.argmax(near), near.shape)
        higher = (max(row - 1, 0) + int(up), max(column - 1, 0) + int(right))
        if smooth[higher] <= smooth[row, column]:
            return row, column
        row, column = higher


def _separate_parts(
    image: Image, smooth: Image, own: Mask, peak: tuple[int, int], threshold: float
) -> list[Mask]:
    """Parts of a region that hold a tenth of it, behind a valley of 3/4 of the peak or deeper."""
    light = np.where(own, image, 0)
    found: list[Mask] = []
    for level in np.geomspace(threshold, max(threshold, _VALLEY * smooth[peak]), _LEVELS)[1:]:
        labels, number = ndimage.label((smooth > level) & own)
        for label in range(1, number + 1):
            part = labels == label
            if part[peak] or any((part & other).any() for other in found):
                continue
            if light[part].sum() > _NEIGHBOUR_SHARE * light.sum():
                found.append(part)
    return found


def _basins(
    smooth: Image, own: Mask, peak: tuple[int, int], parts: Sequence[Mask]
) -> NDArray[np.int32]:
    """A region divided along its valleys: 1 round the peak, 2 and more round the parts, else 0.

    Flooded from the brightest pixel down: a pixel joins the neighbour through which it is reached.
    """
    basins = np.zeros(own.shape, np.int32)
    for number, part in enumerate(parts, start=2):
        basins[part] = number
    basins[peak] = 1
    shore = [(-smooth[y, x], int(y), int(x)) for y, x in zip(*np.nonzero(basins), strict=True)]
    heapq.heapify(shore)
    while shore:
        _, y, x = heapq.heappop(shore)
        for j, i in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= j < own.shape[0] and 0 <= i < own.shape[1]
            if inside and own[j, i] and not basins[j, i]:
                basins[j, i] = basins[y, x]
                heapq.heappush(shore, (-smooth[j, i], j, i))
    return basins


def _distance_of_top(smooth: Image, part: Mask, peak: tuple[int, int]) -> float:
    """How far the brightest pixel of a part is from the peak, px."""
    row, column = np.unravel_index(np.argmax(np.where(part, smooth, -np.inf)), part.shape)
    return float(np.hypot(row - peak[0], column - peak[1]))


def half_light_px(image: Image, y: float, x: float) -> float:
    """Radius, px, of the circle about a point that holds half of an image's light."""
    rows, columns = np.indices(image.shape)
    away = np.hypot(rows - y, columns - x).ravel()
    order = np.argsort(away)
    grown = np.maximum.accumulate(np.cumsum(image.ravel()[order]))
    return float(np.interp(0.5 * grown[-1], grown, away[order]))
