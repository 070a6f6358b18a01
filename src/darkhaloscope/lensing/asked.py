"""What the draws ask of the settings, by attribute: meaning and ranges are in `core.settings`."""

from typing import Protocol


class Range(Protocol):
    """Both ends of a range."""

    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102


class Broad(Protocol):
    """Flat training prior; `core.settings.manifest.BroadPrior` says what each range means."""

    @property
    def theta_e_arcsec(self) -> Range: ...  # noqa: D102
    @property
    def lens_q(self) -> Range: ...  # noqa: D102
    @property
    def shear(self) -> Range: ...  # noqa: D102
    @property
    def src_mag_r(self) -> Range: ...  # noqa: D102
    @property
    def src_r_eff_arcsec(self) -> Range: ...  # noqa: D102
    @property
    def src_q(self) -> Range: ...  # noqa: D102
    @property
    def arc_snr_g(self) -> Range: ...  # noqa: D102


class Grid(Protocol):
    """A training grid by name; `core.settings.manifest.GridPrior`."""

    @property
    def prior(self) -> str: ...  # noqa: D102
    @property
    def lens_q(self) -> Range: ...  # noqa: D102


class Physical(Protocol):
    """The population that judges; `core.settings.manifest.PhysicalPrior`."""

    @property
    def src_mag_r(self) -> Range: ...  # noqa: D102
    @property
    def max_theta_e_arcsec(self) -> float: ...  # noqa: D102
    @property
    def host_z_scatter(self) -> float: ...  # noqa: D102
    @property
    def dispersion_scatter_dex(self) -> float: ...  # noqa: D102
    @property
    def group_share(self) -> float: ...  # noqa: D102
    @property
    def group_offset_dex(self) -> float: ...  # noqa: D102
    @property
    def group_scatter_dex(self) -> float: ...  # noqa: D102
    @property
    def mass_phi_scatter_deg(self) -> float: ...  # noqa: D102
    @property
    def shear_scale(self) -> float: ...  # noqa: D102
    @property
    def src_r_eff_scatter_dex(self) -> float: ...  # noqa: D102
    @property
    def src_q(self) -> Range: ...  # noqa: D102
    @property
    def flat_theta_e_share(self) -> float: ...  # noqa: D102
    @property
    def keep_weight(self) -> float: ...  # noqa: D102


class Sources(Protocol):
    """What all sources share; `core.settings.manifest.Sources`."""

    @property
    def src_n(self) -> Range: ...  # noqa: D102
    @property
    def red_share(self) -> float: ...  # noqa: D102
    @property
    def colour_scatter_mag(self) -> float: ...  # noqa: D102
