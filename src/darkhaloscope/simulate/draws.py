"""Named draws for a group of rows: each value belongs to the seed, the purpose and the row's id."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

from darkhaloscope.core import keys
from darkhaloscope.lensing.asked import Range

Values = NDArray[np.float64]
Rows = NDArray[np.void]  # a structured array; the fields are named where it is made


@dataclass(frozen=True, slots=True)
class Ends:
    """A range that no setting states."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Draws:
    """Draws for rows with these ids, shape (n,); a stream's name says what a draw is for."""

    ids: NDArray[np.int64]
    seed: int

    def uniform(self, stream: str, low: float = 0.0, high: float = 1.0) -> Values:
        """Evenly between `low` and `high`, shape (n,)."""
        return low + (high - low) * keys.uniform(
            self.ids, seed=self.seed, stream=f"simulate {stream}"
        )

    def span(self, stream: str, span: Range) -> Values:
        """Evenly over a span of the settings, shape (n,)."""
        return self.uniform(stream, span.low, span.high)

    def normal(self, stream: str, sigma: float = 1.0) -> Values:
        """Normal about 0, shape (n,)."""
        return sigma * keys.normal(self.ids, seed=self.seed, stream=f"simulate {stream}")

    def power(self, stream: str, span: Range, slope: float) -> Values:
        """Magnitudes whose number rises as 10^(slope m) over the span, shape (n,)."""
        low, high = 10.0 ** (slope * span.low), 10.0 ** (slope * span.high)
        return np.asarray(np.log10(low + (high - low) * self.uniform(stream)) / slope)

    def count(self, stream: str, mean: Values | float) -> NDArray[np.int64]:
        """Poisson numbers of the given mean, shape (n,)."""
        return np.asarray(poisson.ppf(self.uniform(stream), mean)).clip(0).astype(np.int64)


def generator(brickid: int, *, seed: int, stream: str) -> np.random.Generator:
    """The stream of numbers that belongs to one brick and purpose: for noise, pixel by pixel."""
    key = int(keys.bits(np.array([brickid]), seed=seed, stream=f"simulate {stream}")[0])
    return np.random.Generator(np.random.Philox(key=key))
