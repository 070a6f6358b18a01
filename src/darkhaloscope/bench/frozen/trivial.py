"""The best that a model without an eye for arcs does: radial profile and colours, boosted trees.

It says how far extra blue light round a galaxy carries. A network that does not do much better than
this has learnt no geometry.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.evaluate import gates_features
from darkhaloscope.ml.batches import Batch

Pixels = NDArray[np.float32]
Features = NDArray[np.float32]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

NAME = "trivial"  # of the network, in a recipe
THREADS = 1  # a second one waits for cores that others use, and takes many times as long
NEEDS = "scikit-learn is not installed: the trivial model is left out"


@dataclass(frozen=True, slots=True)
class InUnits:
    """Pixels with the sky taken off, in units of a flux per band; in the place of a normalisation.

    Attributes:
        flux_nmgy: Per band, > 0: about the noise of a pixel.
    """

    flux_nmgy: tuple[float, ...]

    def __call__(self, pixels: Tensor, sky_median: Tensor) -> Tensor:
        """Dimensionless stamps, shape and device of `pixels` (n, band, y, x), nmgy."""
        unit = torch.tensor(self.flux_nmgy, dtype=pixels.dtype, device=pixels.device)
        found: Tensor = (pixels - sky_median[:, :, None, None]) / unit[:, None, None]
        return found


def features(stamps: Pixels) -> Features:
    """Azimuthal means in rings of 2 px, and fluxes and colours in six annuli; (n, feature).

    Args:
        stamps: As `InUnits` makes them, (n, band, y, x).
    """
    shown = gates_features.radial_profile(stamps), gates_features.annulus_colour(stamps)
    return np.concatenate(shown, 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trivial model that was fitted.

    Attributes:
        model: Of scikit-learn.
        threads: That it may use.
    """

    model: Any
    threads: int

    def score(self, stamps: Pixels) -> Floats:
        """Logits of a lens, (n,), of stamps (n, band, y, x) as `InUnits` makes them."""
        return self.score_features(features(stamps))

    def score_features(self, values: Features) -> Floats:
        """The same of their features, (n, feature)."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(self.threads):
            return np.asarray(self.model.decision_function(values), np.float64)


def fit(stamps: Pixels, is_lens: Flags, *, threads: int = THREADS) -> Fitted:
    """Fit on stamps (n, band, y, x) as `InUnits` makes them, and their labels (n,)."""
    return fit_features(features(stamps), is_lens, threads=threads)


def fit_features(values: Features, is_lens: Flags, *, threads: int = THREADS) -> Fitted:
    """Fit on features (n, feature) and labels (n,).

    Raises:
        ConfigError: scikit-learn is not installed.
        DataError: one class only.
    """
    if not is_installed():
        raise ConfigError(f"{NEEDS}; `pip install scikit-learn` brings it")
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    if is_lens.all() or not is_lens.any():
        raise DataError(f"a model needs both classes; got {is_lens.sum()} lenses of {len(is_lens)}")
    model = HistGradientBoostingClassifier(
        max_iter=400, learning_rate=0.08, max_leaf_nodes=31, min_samples_leaf=40,
        l2_regularization=1.0, max_features=0.5, early_stopping=False, random_state=0,
    )  # fmt: skip
    with threadpool_limits(threads):
        model.fit(values, is_lens)
    return Fitted(model, threads)


def is_installed() -> bool:
    """Whether scikit-learn is here."""
    try:
        import sklearn  # noqa: F401
        import threadpoolctl  # noqa: F401
    except ImportError:
        return False
    return True


def learnt(batches: Iterable[Batch], *, threads: int = THREADS) -> Fitted:
    """Fit on the batches of a training source whose `normalise` is `InUnits`."""
    shown, labels = [], []
    for batch in batches:
        shown.append(features(np.ascontiguousarray(batch.stamps.float().cpu().numpy())))
        labels.append(batch.labels.cpu().numpy() > 0.5)
    return fit_features(np.concatenate(shown), np.concatenate(labels), threads=threads)
