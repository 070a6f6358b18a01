"""The run's file: one TOML file that states every scientific choice.

`load` turns all its faults into one finished message. Conventions of the sky (bands, pixel scale)
and of the tiling stand once, in `[survey]` and `[tiles]`, and are handed to each stage's settings.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from darkhaloscope.core import faults
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.core.settings.audit import AuditConfig
from darkhaloscope.core.settings.base import Model, StageConfig
from darkhaloscope.core.settings.candidates import CandidatesConfig
from darkhaloscope.core.settings.cutouts import CutoutsConfig
from darkhaloscope.core.settings.ensemble import EnsembleConfig
from darkhaloscope.core.settings.gates import GatesConfig
from darkhaloscope.core.settings.images import ImagesConfig
from darkhaloscope.core.settings.manifest import ManifestConfig
from darkhaloscope.core.settings.mined import MinedConfig
from darkhaloscope.core.settings.model import ModelConfig
from darkhaloscope.core.settings.report import ReportConfig
from darkhaloscope.core.settings.scores import ScoresConfig
from darkhaloscope.core.settings.selection import SelectionConfig
from darkhaloscope.core.settings.simulate import SimulateConfig
from darkhaloscope.core.settings.splits import SplitsConfig
from darkhaloscope.core.settings.stamps import StampsConfig
from darkhaloscope.core.settings.survey import SurveyConfig
from darkhaloscope.core.settings.targets import Nside, TargetsConfig

_SECTIONS = (
    "targets",
    "splits",
    "images",
    "cutouts",
    "manifest",
    "stamps",
    "gates",
    "scores",
    "mined",
    "audit",
    "selection",
    "report",
    "candidates",
)
_CONVENTIONS = ("bands", "pixel_scale_arcsec")  # of [survey], handed to every section
_ADDRESSES = ("root", "cache_folder")
_LISTS = {  # of positions
    "mined": ("known_lenses", "grades", "false_positives"),
    "audit": ("real_lenses",),
    "report": ("planted_lenses",),
}


class TilesConfig(Model):
    """The unit of work: a HEALPix pixel (nested) that holds the brick's centre."""

    nside: Nside
    """HEALPix NSIDE, a power of two: 32 (1.8 degrees) for a survey, finer for a small field."""


class RunConfig(Model):
    """One run: where it lives, which survey it reads, and the settings of every stage."""

    format: Literal[1]
    """Version of this file's format."""
    root: str = Field(min_length=1)
    """Where the run's tables are written: a folder (relative to this file) or `s3://...`."""
    simulate: SimulateConfig | None = None
    """The simulated survey that `dhs simulate` and `dhs demo` write at `survey.root`."""
    survey: SurveyConfig
    tiles: TilesConfig
    targets: TargetsConfig
    splits: SplitsConfig
    images: ImagesConfig
    cutouts: CutoutsConfig
    manifest: ManifestConfig
    stamps: StampsConfig
    gates: GatesConfig
    model: dict[str, ModelConfig] = Field(min_length=1)
    """Networks to train, by name: `[model.NAME]`."""
    scores: ScoresConfig
    mined: MinedConfig | None = None
    """Rounds of training on what the network takes for lenses; left out: round 0 alone."""
    audit: AuditConfig | None = None
    """Checks of the trained network; left out: none are made."""
    ensemble: Annotated[dict[str, EnsembleConfig], Field(min_length=1)] | None = None
    """Networks whose scores are made one and calibrated, by name: `[ensemble.NAME]`."""
    selection: SelectionConfig
    report: ReportConfig
    candidates: CandidatesConfig

    @model_validator(mode="before")
    @classmethod
    def _state_conventions_once(cls, raw: Any) -> Any:
        """Hand the conventions of `[survey]` and `[tiles]` to each section; keep the rest as is."""
        if not isinstance(raw, dict) or not isinstance(raw.get("survey"), dict):
            return raw
        survey = raw["survey"]
        shared = {k: survey[k] for k in _CONVENTIONS if k in survey}
        if twice := _stated_twice(raw):
            raise ValueError(f"{', '.join(twice)}: stated once for all stages; leave it out here")
        raw = dict(raw)
        for name in _SECTIONS:
            if isinstance(raw.get(name), dict):
                raw[name] = {**raw[name], **shared}
        if isinstance(raw.get("targets"), dict) and isinstance(raw.get("tiles"), dict):
            raw["targets"]["tile_nside"] = raw["tiles"].get("nside")
        beta = raw["cutouts"].get("psf_beta") if isinstance(raw.get("cutouts"), dict) else None
        if isinstance(raw.get("stamps"), dict) and isinstance(beta, dict):
            raw["stamps"]["psf_beta"] = [beta.get(band) for band in shared.get("bands", ())]
        targets = raw.get("targets")
        if isinstance(raw.get("manifest"), dict) and isinstance(targets, dict):
            raw["manifest"]["target_variant"] = targets.get("variant")
        raw |= _beside(raw)
        if isinstance(raw.get("report"), dict) and _is_of_the_mined(raw):
            raw["report"] = {**raw["report"], "mined": raw["mined"]}
        raw |= _of_ensembles(raw, shared)
        if isinstance(raw.get("model"), dict):
            shared |= {k: raw[k] for k in ("manifest", "stamps") if k in raw}
            raw["model"] = {
                k: {**v, **shared} if isinstance(v, dict) else v for k, v in raw["model"].items()
            }
        return raw

    @model_validator(mode="before")
    @classmethod
    def _ensembles_have_names(cls, raw: Any) -> Any:
        found = raw.get("ensemble") if isinstance(raw, dict) else None
        named = found.values() if isinstance(found, dict) else [found]
        if found is not None and not (found and all(isinstance(table, dict) for table in named)):
            raise ValueError("ensemble: each has a section of its own, [ensemble.NAME]")
        return raw

    @model_validator(mode="after")
    def _names_are_of_folders(self) -> "RunConfig":
        for section in ("model", "ensemble"):
            for name in getattr(self, section) or {}:
                if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", name):
                    raise ValueError(
                        f"{section}.{name}: it names a folder; use letters, digits and . _ + - only"
                    )
        return self

    @model_validator(mode="after")
    def _models_exist(self) -> "RunConfig":
        for name in ("mined", "selection", "report", "candidates"):
            section = getattr(self, name)
            either = name in ("report", "candidates")
            known = sorted({*self.model, *((self.ensemble or {}) if either else ())})
            if section is not None and section.model not in known:
                is_ensemble = section.model in (self.ensemble or {})
                why = "is an ensemble, and one network is wanted:" if is_ensemble else "is not"
                raise ValueError(f"{name}.model: {section.model!r} {why} one of {known}")
        return self

    @model_validator(mode="after")
    def _members_exist(self) -> "RunConfig":
        for name, ensemble in (self.ensemble or {}).items():
            if name in self.model:
                raise ValueError(f"ensemble.{name}: there is a model of this name; choose another")
            rounds = {m: self.last_round(m) for m in self.model}
            known = f"one of {sorted(rounds)}"
            faults = [
                f"{model!r} is an ensemble, and votes are of networks: {known}"
                if model in (self.ensemble or {})
                else f"{model!r} is not {known}"
                if model not in rounds
                else f"{model} has no round {k}, its last is {rounds[model]}"
                for model, k in ensemble.named
                if model not in rounds or (k is not None and k > rounds[model])
            ]
            votes = [(m, rounds.get(m) if k is None else k) for m, k in ensemble.named]
            twice = sorted({m for m, k in votes if votes.count((m, k)) > 1})
            faults += [f"{m} is named twice, by its last round too" for m in twice]
            if faults:
                raise ValueError(f"ensemble.{name}.members: {'; '.join(faults)}")
        return self

    def last_round(self, model: str) -> int:
        """The last round of a model: 0 where nothing is mined for it."""
        return self.mined.rounds if self.mined is not None and self.mined.model == model else 0

    @model_validator(mode="after")
    def _mined_are_learnt_from(self) -> "RunConfig":
        if self.mined is not None and not self.model[self.mined.model].mix.get("mined", 0) > 0:
            raise ValueError(
                f"mined.model: the mix of model.{self.mined.model} has no share of `mined`, so "
                "that nothing would be learnt from what is mined"
            )
        return self

    @model_validator(mode="after")
    def _mined_are_mined(self) -> "RunConfig":
        mined = None if self.mined is None else self.mined.model
        lacking = [n for n, m in self.model.items() if m.mix.get("mined", 0) > 0 and n != mined]
        if lacking:
            raise ValueError(
                f"model.{lacking[0]}.mix: it has a share of `mined`, but no section [mined] mines "
                "for this model; add the section, or take the share out"
            )
        return self

    @model_validator(mode="after")
    def _rounds_say_how_they_begin(self) -> "RunConfig":
        if self.mined is not None and self.model[self.mined.model].round_start is None:
            raise ValueError(
                f"model.{self.mined.model}.round_start: rounds of mining begin `afresh` or with "
                "the weights of the `previous` one; state which"
            )
        return self

    @model_validator(mode="after")
    def _stamps_fit_cutouts(self) -> "RunConfig":
        shift = max(model.max_shift_px for model in self.model.values())
        if self.stamps.size_px + 2 * shift > self.cutouts.size_px:
            raise ValueError(
                f"stamps.size_px {self.stamps.size_px} and shifts of {shift} px to each side "
                f"do not fit cutouts.size_px {self.cutouts.size_px}"
            )
        return self

    @model_validator(mode="after")
    def _psf_images_are_at_hand(self) -> "RunConfig":
        kept, where = self.cutouts.psf_image_px is not None, self.survey.psf_images is not None
        if self.stamps.psf_profile == "image" and not kept:
            raise ValueError(
                'stamps.psf_profile "image" needs PSF images: state survey.psf_images and '
                "cutouts.psf_image_px"
            )
        if kept != where:
            raise ValueError(
                "survey.psf_images and cutouts.psf_image_px belong together: state both or neither"
            )
        return self

    @model_validator(mode="after")
    def _bands_are_drawn(self) -> "RunConfig":
        drawn = None if self.simulate is None else self.simulate.bands
        lacking = [band for band in self.survey.bands if drawn is not None and band not in drawn]
        if lacking:
            raise ValueError(
                f"survey.bands: {', '.join(lacking)} is not drawn by [simulate], whose bands are "
                f"{', '.join(drawn or ())}"
            )
        return self


def load(path: Path) -> RunConfig:
    """Read and check a run's file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: it cannot be read or used. One message names every faulty key.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is not there; `dhs init {path}` writes one") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    return parse(raw, folder=path.parent, where=str(path))


def parse(raw: Mapping[str, Any], *, folder: Path, where: str) -> RunConfig:
    """A run's settings from the tables of its file; `where` names it in messages."""
    tables = dict(raw)
    if isinstance(tables.get("root"), str):
        tables["root"] = absolute(tables["root"], folder)
    if isinstance(tables.get("survey"), dict):
        survey = tables["survey"]
        at = {k: absolute(survey[k], folder) for k in _ADDRESSES if isinstance(survey.get(k), str)}
        tables["survey"] = {**survey, **at}
    tables = _with_absolute_look_alikes(_with_absolute_catalogues(tables, folder), folder)
    for name, keys in _LISTS.items():
        if isinstance(tables.get(name), dict):
            tables[name] = {**tables[name], **_absolute_lists(tables[name], keys, folder)}
    try:
        return RunConfig.model_validate(tables)
    except ValidationError as error:
        said = faults.lines(error.errors())
        raise ConfigError("\n".join([f"{where} cannot be used", *said])) from error


def _with_absolute_catalogues(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same tables, with the places of source catalogues relative to nothing."""
    path = ("manifest", "sources", "bank")
    below: list[Any] = [tables]
    for name in path:
        below.append(below[-1].get(name) if isinstance(below[-1], dict) else None)
    bank = below.pop()
    if not isinstance(bank, dict) or not isinstance(bank.get("catalogues"), list):
        return tables
    found = [absolute(c, folder) if isinstance(c, str) else c for c in bank["catalogues"]]
    made: dict[str, Any] = {**bank, "catalogues": found}
    for name, table in zip(reversed(path), reversed(below), strict=True):
        made = {**table, name: made}
    return made


def _with_absolute_look_alikes(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same tables, with the places of lists of look-alikes relative to nothing."""
    manifest = tables.get("manifest")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("look_alikes"), dict):
        return tables
    section = manifest["look_alikes"]
    made = {**section, **_absolute_lists(section, ("known_lenses",), folder)}
    if isinstance(section.get("tables"), list):
        made["tables"] = [
            {**t, "address": absolute(t["address"], folder)}
            if isinstance(t, dict) and isinstance(t.get("address"), str)
            else t
            for t in section["tables"]
        ]
    return {**tables, "manifest": {**manifest, "look_alikes": made}}


def _absolute_lists(section: Mapping[str, Any], keys: tuple[str, ...], folder: Path) -> Any:
    """The lists of addresses of a section, relative to nothing."""
    return {
        key: [absolute(a, folder) if isinstance(a, str) else a for a in section[key]]
        for key in keys
        if isinstance(section.get(key), list)
    }


def absolute(address: str, folder: Path) -> str:
    """An address as it is, `s3a://` as `s3://`, a relative path below `folder`."""
    if "://" in address:
        return address.replace("s3a://", "s3://", 1).rstrip("/")
    return str((folder.absolute() / Path(address).expanduser()).resolve())


def digest_text(config: Model) -> str:
    """Settings as canonical text, without those that change only speed, at any depth."""
    stated = config.model_dump(mode="json", exclude=_speed_only(type(config)))
    return json.dumps(stated, sort_keys=True)


def stage_config(config: RunConfig, stage: str, *, model: str | None = None) -> StageConfig:
    """The settings of one stage; of one of the models or ensembles where it has several."""
    if stage == "model":
        return config.model[model or next(iter(config.model))]
    if stage == "ensemble" and config.ensemble is not None:
        return config.ensemble[model or next(iter(config.ensemble))]
    found: StageConfig = getattr(config, stage)
    return found


def is_asked(config: RunConfig, stage: str) -> bool:
    """Whether a run has the section of a stage; some may be left out."""
    return getattr(config, stage) is not None


def _seen_as(models: Any) -> dict[str, Any]:
    """How each model sees pixels, as far as the file says so."""
    names = ("normalisation", "softening_nmgy")
    if not isinstance(models, dict):
        return {}
    return {
        name: {key: model[key] for key in names if key in model}
        for name, model in models.items()
        if isinstance(model, dict)
    }


def _beside(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections that are handed keys of others, with these, by name."""
    taught = {k: raw[k] for k in ("manifest", "stamps", "splits") if k in raw}
    report = raw["report"] if isinstance(raw.get("report"), dict) else {}
    told = {
        name: {k: report[k] for k in keys if k in report} for name, keys in faults.OF_REPORT.items()
    }
    handed: dict[str, dict[str, Any]] = {
        **told,
        "gates": {**taught, "models": _seen_as(raw.get("model"))},
        "selection": {**told["selection"], **{k: raw[k] for k in ("targets",) if k in raw}},
        "audit": {**told["audit"], **{k: raw[k] for k in ("stamps",) if k in raw}},
    }
    return {k: {**raw[k], **v} for k, v in handed.items() if isinstance(raw.get(k), dict)}


def _is_of_the_mined(raw: Mapping[str, Any]) -> bool:
    """Whether the report is of the model that is trained in rounds, or of an ensemble with it."""
    mined, ensembles, named = raw.get("mined"), raw.get("ensemble"), raw["report"].get("model")
    if not isinstance(mined, dict):
        return False
    section = ensembles.get(str(named)) if isinstance(ensembles, dict) else None
    members = section.get("members") if isinstance(section, dict) else None
    if not isinstance(members, list):
        return bool(mined.get("model") == named)
    return bool({mined.get("model"), f"{mined.get('model')}@{mined.get('rounds')}"} & {*members})


def _of_ensembles(raw: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The ensembles with what they are handed, and the report with the one that it names."""
    ensembles, report = raw.get("ensemble"), raw.get("report")
    if not isinstance(ensembles, dict) or not isinstance(report, dict):
        return {}
    told = {**shared, **{k: report[k] for k in ("lens_weight",) if k in report}}
    made = {k: {**v, **told} if isinstance(v, dict) else v for k, v in ensembles.items()}
    named = made.get(str(report.get("model")))
    own = {"ensemble": named} if isinstance(named, dict) else {}
    return {"ensemble": made, "report": {**report, **own}}


def _stated_twice(raw: Mapping[str, Any]) -> list[str]:
    """Keys that a section states though it is handed them, `section.key`: they would be ignored."""
    handed: dict[str, tuple[str, ...]] = dict.fromkeys(_SECTIONS, _CONVENTIONS)
    handed |= {"targets": (*_CONVENTIONS, "tile_nside"), "stamps": (*_CONVENTIONS, "psf_beta")}
    handed["manifest"] = (*_CONVENTIONS, "target_variant")
    handed |= {name: (*_CONVENTIONS, *keys) for name, keys in faults.OF_REPORT.items()}
    handed["selection"] += ("targets",)
    handed["report"] = (*_CONVENTIONS, "mined", "ensemble")
    handed["audit"] += ("stamps",)
    handed["gates"] = (*_CONVENTIONS, "manifest", "stamps", "splits", "models")
    stated = {name: raw.get(name) for name in handed}
    models = raw.get("model")
    if isinstance(models, dict):
        stated |= {f"model.{name}": table for name, table in models.items()}
    ensembles = raw.get("ensemble")
    if isinstance(ensembles, dict):
        stated |= {f"ensemble.{name}": table for name, table in ensembles.items()}
        handed |= {f"ensemble.{name}": (*_CONVENTIONS, "lens_weight") for name in ensembles}
    return [
        f"{name}.{key}"
        for name, table in stated.items()
        if isinstance(table, dict)
        for key in handed.get(name, (*_CONVENTIONS, "manifest", "stamps"))
        if key in table
    ]


def _speed_only(kind: type[Model]) -> dict[str, Any]:
    """Fields that change only speed, as pydantic's `exclude`; a model holds those of stamps."""
    found: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        extra, inner = field.json_schema_extra, field.annotation
        if isinstance(extra, dict) and extra.get("speed_only"):
            found[name] = True
            continue
        for part in (inner, *get_args(inner)):  # a section that may be left out is a union
            if isinstance(part, type) and issubclass(part, Model) and (below := _speed_only(part)):
                found[name] = below
    return found
