"""What the benchmark is: read from `benchmark.toml`, and named by the sha256 of what stands there.

A variant lays other numbers over the definition: `quick`, smaller; `shifted`, under another sky;
`cosmos`, with real galaxies as sources; `tiny`, to try the command out. Each has its own name, hash
and galaxies.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib import resources
from types import SimpleNamespace
from typing import Any

from darkhaloscope.bench.records import record
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.data import store

VARIANTS = ("quick", "shifted", "cosmos", "tiny")
SETS = ("train", "val", "calib", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A benchmark.

    Attributes:
        stated: All of its numbers, as in the file with the variant laid over.
        real_sources: File of the bank that real galaxies are taken from; empty: there are none.
    """

    stated: Mapping[str, Any]
    real_sources: str = ""

    @property
    def name(self) -> str:
        """`dhs-sim-1`, with the variant's name after it."""
        return str(self.stated["name"])

    @property
    def sha256(self) -> str:
        """Of the numbers, in an order of their own: comments and layout do not count."""
        text = json.dumps(self.stated, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def bands(self) -> tuple[str, ...]:
        """Filters."""
        return tuple(self.stated["bands"])

    @property
    def pixel_scale_arcsec(self) -> float:
        """Width of a pixel."""
        return float(self.stated["pixel_scale_arcsec"])

    @property
    def size_px(self) -> int:
        """Width of a stamp."""
        return int(self.stated["size_px"])

    @property
    def headline(self) -> Mapping[str, float]:
        """Least value of each quantity in the headline stratum."""
        return dict(self.stated["headline"])

    def counts(self, which: str) -> dict[str, int]:
        """Galaxies that play each kind of negative in val, calib or test."""
        return dict(self.stated["sets"][which]["counts"])

    def lens_hosts(self, which: str) -> int:
        """Galaxies in which a lens is looked for."""
        return int(self.stated["sets"][which]["lens_hosts"])

    def sky_weights(self, which: str) -> dict[str, float]:
        """Weight of each kind of negative: its share on the sky over its share in the set."""
        return self._weights(which, self.stated["sky_shares"])

    def stress_weights(self, which: str) -> dict[str, float]:
        """The same for the stress mixture, in which all kinds but random galaxies are alike."""
        control = self.stated["stress_shares"]["control"]
        others = [kind for kind in self.counts(which) if kind != "control"]
        return self._weights(
            which, {"control": control, **dict.fromkeys(others, (1 - control) / len(others))}
        )

    def _weights(self, which: str, shares: Mapping[str, float]) -> dict[str, float]:
        counts = self.counts(which)
        total, of_all = sum(counts.values()), sum(shares.get(kind, 0.0) for kind in counts)
        return {k: shares.get(k, 0.0) / of_all * total / n for k, n in counts.items()}

    def effective_negatives(self, which: str) -> float:
        """Least of n_k / W_k over the kinds that are on the sky."""
        shares = self.stated["sky_shares"]
        counts = self.counts(which)
        of_all = sum(shares.get(kind, 0.0) for kind in counts)
        return float(
            min(n * of_all / shares[kind] for kind, n in counts.items() if shares.get(kind))
        )

    def sky(self) -> SimpleNamespace:
        """What galaxies are drawn from, by attribute."""
        return record(
            {**self.stated["hosts"], "bands": self.bands, "pixel_scale_arcsec":
             self.pixel_scale_arcsec}
        )  # fmt: skip

    def drawing(
        self, plans: Mapping[str, Mapping[str, Any]], *, is_unseen: bool = False,
        changes: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        """Settings of the manifest, by attribute.

        Args:
            plans: What each set is made of, as in `[manifest.sets]`.
            is_unseen: Whether look-alikes come from the half of their range that no network is
                taught; else from the other.
            changes: Laid over `[manifest]`.

        Raises:
            ConfigError: the changes touch a range of which half is kept for the test.
        """
        stated = laid_over(self.stated["manifest"], changes or {})
        shapes = stated["shapes"]
        kept = self.stated["unseen"]["upper_half"]
        ours = self.stated["manifest"]["shapes"]
        touched = [f"{k}.{name}" for k, name in kept.items() if shapes[k][name] != ours[k][name]]
        if touched:
            raise ConfigError(
                f"manifest.shapes.{', '.join(touched)} cannot be changed: the benchmark keeps half "
                "of each of these ranges for the test"
            )
        for kind, name in kept.items():
            shapes[kind][name] = _half(shapes[kind][name], is_upper=is_unseen)
        handed = {"bands": self.bands, "pixel_scale_arcsec": self.pixel_scale_arcsec}
        return record(
            {**stated, **handed, "sets": plans, "sky_shares": self.stated["sky_shares"],
             "look_alikes": None}
        )  # fmt: skip

    def painting(self) -> SimpleNamespace:
        """Settings of the stamps, by attribute."""
        beta = self.stated["hosts"]["assumed_beta"]
        handed: dict[str, Any] = {
            "bands": self.bands,
            "pixel_scale_arcsec": self.pixel_scale_arcsec,
            "size_px": self.size_px,
            "psf_beta": (beta,) * len(self.bands),
        }
        gains = tuple(self.stated["stamps"]["electrons_per_nmgy_per_exposure"])
        return SimpleNamespace(
            **{**self.stated["stamps"], "electrons_per_nmgy_per_exposure": gains, **handed}
        )


def load(variant: str = "", *, catalogues: tuple[str, ...] = ()) -> Definition:
    """The benchmark, or a variant of it.

    Args:
        variant: Empty, or one of `VARIANTS`.
        catalogues: For the variant `cosmos` the bank of sources, one file, that a run has made of
            real galaxies. Its content counts in the hash, its place does not.

    Raises:
        ConfigError: there is no such variant, or it lacks its catalogue.
    """
    if variant and variant not in VARIANTS:
        raise ConfigError(
            f"there is no variant {variant!r} of the benchmark; choose {', '.join(VARIANTS)}"
        )
    if variant == "cosmos" and not catalogues:
        raise ConfigError(
            "the variant cosmos needs real galaxies: name with --catalogue the file "
            "sources/sources.parquet of a run whose manifest.sources.bank.catalogues names them; "
            "docs/sources.md says where to get a catalogue"
        )
    text = resources.files("darkhaloscope.bench.frozen").joinpath("benchmark.toml").read_text()
    stated = tomllib.loads(text)
    laid = {name: stated.pop(name) for name in VARIANTS}
    if variant:
        stated = laid_over(stated, laid[variant])
    if not catalogues:
        return Definition(stated)
    stated["manifest"]["sources"]["bank"]["catalogues"] = [_content_of(catalogues)]
    return Definition(stated, catalogues[0])


def _content_of(catalogues: tuple[str, ...]) -> str:
    """The sha256 of a bank's data."""
    header = store.header_of(catalogues[0]) if len(catalogues) == 1 else None
    if header is None:
        raise ConfigError(
            f"{', '.join(catalogues)}: real galaxies come from one bank of sources, the file "
            "sources/sources.parquet of a run whose manifest.sources.bank.catalogues names them"
        )
    return header.content


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the values of `above`; tables are merged, but ranges and counts replaced."""
    made = deepcopy(dict(below))
    for key, value in above.items():
        is_whole = key in ("counts", "kinds") or (isinstance(value, dict) and "low" in value)
        if isinstance(value, dict) and isinstance(made.get(key), dict) and not is_whole:
            made[key] = laid_over(made[key], value)
        else:
            made[key] = deepcopy(value)
    return made


def _half(span: Mapping[str, float], *, is_upper: bool) -> dict[str, float]:
    middle = (span["low"] + span["high"]) / 2
    return (
        {"low": middle, "high": span["high"]} if is_upper else {"low": span["low"], "high": middle}
    )
