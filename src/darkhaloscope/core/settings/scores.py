"""`[scores]`: how stamps are scored. Nothing here changes a score beyond its last bits."""

from pydantic import Field

from darkhaloscope.core.settings.base import StageConfig


class ScoresConfig(StageConfig):
    """How stamps are scored."""

    batch_rows: int = Field(default=64, ge=1, le=65536, json_schema_extra={"speed_only": True})
    """Stamps that go through the network at once; sets the memory it takes."""
