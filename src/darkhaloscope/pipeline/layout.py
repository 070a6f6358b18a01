"""Which partitions a stage has in a run, what they are called, and where they stand."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from darkhaloscope.core.config import RunConfig, is_asked
from darkhaloscope.core.contracts import Input, Stage
from darkhaloscope.core.schemas import SPLITS
from darkhaloscope.pipeline.registry import stage_named

SCORED_SETS = ("val", "calib", "test", "sky")
WHOLE = "all"

TileSplits = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The objects of one run.

    Attributes:
        config: The run's settings.
        catalogues: Survey-relative path of each catalogue file, by its key.
        tiles: Number of targets by split, for each tile; empty before `splits` is made.
    """

    config: RunConfig
    catalogues: Mapping[str, str]
    tiles: TileSplits = field(default_factory=dict)

    def partitions(self, stage: Stage) -> list[str]:
        """Keys of everything that the stage makes in this run, in order."""
        if not is_asked(self.config, stage.name):
            return []
        kinds: dict[str, Sequence[str]] = {
            "catalogue": sorted(self.catalogues),
            "tile": sorted(self.tiles),
            "whole": [WHOLE],
            "model": self._models(stage),
        }
        if stage.partition == "set/tile":
            return self._set_tiles(self.config.stamps.sets)
        if stage.partition == "ensemble/set":
            return [f"{e}/set={s}" for e in self.config.ensemble or {} for s in SCORED_SETS]
        if stage.partition == "model/set/tile":
            return [f"{m}/{key}" for m in kinds["model"] for key in self._set_tiles(SCORED_SETS)]
        return list(kinds[stage.partition])

    def last_round(self, model: str) -> int:
        """The last round of a model: 0 where nothing is mined for it."""
        return self.config.last_round(model)

    def path(self, table: str, key: str) -> str:
        """Where the partition `key` of a table stands; a folder for an artefact."""
        root = self.config.root
        stage = stage_named(table)
        if stage.output is None:
            return f"{root}/{table}" if key == WHOLE else f"{root}/{table}/{key}"
        if stage.partition == "tile" or stage.splits_output_by:
            return f"{root}/{table}/tile={key}.parquet"
        return f"{root}/{table}/{table if key == WHOLE else key}.{stage.kept_as}"

    def inputs(self, stage: Stage, wanted: Input, key: str) -> list[str]:
        """Paths of all that one input contributes to the partition `key`."""
        if wanted.for_sets and set_of(key) not in wanted.for_sets:
            return []
        source = stage_named(wanted.table)
        return [self.path(wanted.table, k) for k in self._input_keys(stage, source, wanted, key)]

    def _input_keys(self, stage: Stage, source: Stage, wanted: Input, key: str) -> list[str]:
        tiles = [tile_of(key)] if wanted.scope == "tile" else sorted(self.tiles)
        if source.partition == "catalogue":
            return sorted(self.catalogues)
        if source.partition == "whole" and not source.splits_output_by:
            return [WHOLE]
        if source.partition in ("model", "ensemble/set"):
            made = set(self.partitions(source))
            name = self._model(stage, key)
            sets = [f"{name}/set={s}" for s in wanted.sets or SCORED_SETS]
            named = self._rounds(stage, wanted, key) if source.partition == "model" else sets
            return [k for k in named if k in made]
        if source.partition in ("set/tile", "model/set/tile"):
            asked = wanted.sets or (set_of(key),)
            if source.partition == "set/tile":
                asked = tuple(name for name in asked if name in self.config.stamps.sets)
            within = [k for k in self._set_tiles(asked) if tile_of(k) in tiles]
            if source.partition == "set/tile":
                return within
            return [f"{m}/{k}" for m in self._rounds(stage, wanted, key) for k in within]
        return tiles

    def _models(self, stage: Stage) -> list[str]:
        """`NAME/round=k` of everything that a stage makes by model."""
        named = getattr(getattr(self.config, stage.name), "model", None)
        keys = []
        for name in self.config.model:
            if named not in (None, name):
                continue
            last = self.last_round(name)
            rounds = {"every": range(last + 1), "but_last": range(last), "last": (last,)}
            keys += [f"{name}/round={k}" for k in rounds[stage.made_in]]
        return keys

    def _rounds(self, stage: Stage, wanted: Input, key: str) -> list[str]:
        """`NAME/round=k` of all that one input contributes."""
        name = self._model(stage, key)
        if name in (self.config.ensemble or {}):
            return self._rounds_of_members(name, stage, wanted)
        last = self.last_round(name)
        own = round_of(key) if stage.partition.startswith("model") else last
        asked = {
            "own": (own,),
            "before": range(own),
            "previous": range(max(own - 1, 0), own),
            "earlier": range(last),
        }
        return [f"{name}/round={k}" for k in asked[wanted.rounds]]

    def _rounds_of_members(self, ensemble: str, stage: Stage, wanted: Input) -> list[str]:
        """`NAME/round=k` of what one input contributes where an ensemble stands for a model.

        Its table has the place of its members' scores, which only the ensemble itself reads.
        """
        if wanted.rounds == "earlier":
            mined = self.config.report.mined
            rounds = () if mined is None else range(self.last_round(mined.model))
            return [f"{mined.model}/round={k}" for k in rounds] if mined is not None else []
        if wanted.table == "scores" and stage.partition != "ensemble/set":
            return []
        members = self._members(ensemble)
        return members[:1] if wanted.rounds == "first" else members

    def _model(self, stage: Stage, key: str) -> str:
        """The model that a partition belongs to, or that the stage's settings name."""
        if stage.partition.startswith(("model", "ensemble")):
            return key.split("/", 1)[0]
        name: str = getattr(self.config, stage.name).model
        return name

    def _members(self, ensemble: str) -> list[str]:
        """`NAME/round=k` of the members of an ensemble, in their order."""
        named = (self.config.ensemble or {})[ensemble].named
        return [f"{model}/round={self.last_round(model) if k is None else k}" for model, k in named]

    def _set_tiles(self, sets: Sequence[str]) -> list[str]:
        """Every set and tile that holds a target of it; `sky` holds the targets of all splits."""
        return [
            f"set={name}/tile={tile}"
            for name in sets
            for tile, counts in sorted(self.tiles.items())
            if any(counts.get(split, 0) for split in (SPLITS if name == "sky" else (name,)))
        ]


def tile_of(key: str) -> str:
    """The tile in a partition's key."""
    return key.rsplit("tile=", 1)[-1]


def round_of(key: str) -> int:
    """The round of mining in a partition's key or path; 0 where it has none."""
    found = re.search(r"(?:^|/)round=(\d+)", key)
    return int(found[1]) if found else 0


def member_of(key: str) -> str:
    """`NAME/round=k` in a partition's key or path; empty where it has none."""
    found = re.search(r"([^/]+/round=\d+)", key)
    return found[1] if found else ""


def set_of(key: str) -> str:
    """The set in a partition's key; empty where it has none."""
    return key.rsplit("set=", 1)[-1].split("/", 1)[0] if "set=" in key else ""
