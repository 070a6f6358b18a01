"""`[candidates]`: the ranked list of the sky."""

from pydantic import Field

from darkhaloscope.core.settings.base import StageConfig


class CandidatesConfig(StageConfig):
    """Every target of the sky set, ranked by one model; one row per position."""

    model: str = Field(min_length=1)
    """Name of the model or ensemble that ranks, as in `[model.NAME]` or `[ensemble.NAME]`."""
    merge_arcsec: float = Field(gt=0, le=60)
    """Targets nearer than this are one row, that of the highest score; chains are one group."""
    viewer_layer: str = Field(pattern=r"^[A-Za-z0-9._-]*$")
    """Layer of the Legacy Surveys' sky viewer that the links open, such as `ls-dr10`; empty: no
    links, as for a simulated sky, at whose positions the viewer shows unrelated galaxies."""
