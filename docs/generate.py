"""Writes docs/stages/*.md and docs/settings.md from the schemas and the settings models.

`python docs/generate.py` writes; `--check` says whether the pages are what would be written.
"""

import inspect
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from darkhaloscope.core import schemas
from darkhaloscope.core.config import RunConfig
from darkhaloscope.core.contracts import Stage
from darkhaloscope.core.faults import OF_REPORT
from darkhaloscope.core.settings.base import Span, StageConfig
from darkhaloscope.pipeline.registry import ORDER, stage_named

HERE = Path(__file__).parent
BANDS = ("g", "r", "z")
# Stated once, in [survey], [tiles] or the section of the same name, and handed over.
HANDED = ("bands", "pixel_scale_arcsec", "tile_nside", "target_variant", "manifest", "stamps")


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    made = {HERE / "stages" / f"{name}.md": stage_page(stage_named(name)) for name in ORDER}
    made[HERE / "settings.md"] = settings_page()
    return made


def stage_page(stage: Stage) -> str:
    """What a stage reads, makes and may be told."""
    module = inspect.getmodule(stage.run)
    text = [f"# {stage.name}", "", inspect.getdoc(module) or "", ""]
    reads = [f"`{i.table}` ({i.scope})" for i in stage.inputs] or ["the survey"]
    made = f"Version {stage.version}; one output per {stage.partition}."
    text += [f"Reads {', '.join(reads)}. {made}", ""]
    if stage.output is not None:
        text += ["## Columns", "", *columns_table(stage), ""]
    return "\n".join([*text, "## Settings", "", *model_table(settings_of(stage.name))]) + "\n"


def columns_table(stage: Stage) -> list[str]:
    """A Markdown table of a stage's columns, for the bands g, r, z."""
    assert stage.output is not None
    rows = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for field in stage.output(BANDS):
        facts = {k.decode(): v.decode() for k, v in field.metadata.items()}
        kind = "pixels" if field.type == schemas.PIXELS else str(field.type)
        null = "; may be null" if field.nullable else ""
        rows.append(f"| `{field.name}` | {kind} | {facts['unit']} | {facts['meaning']}{null} |")
    return rows


def settings_page() -> str:
    """Every section of the run's file."""
    text = ["# The run's file", "", inspect.getdoc(inspect.getmodule(RunConfig)) or "", ""]
    for name, field in RunConfig.model_fields.items():
        model = model_in(field.annotation)
        if model is None:
            text += [f"`{name}`: {field.description or ''}", ""]
        else:
            section = f"{name}.NAME" if name in ("model", "ensemble") else name
            text += [f"## [{section}]", "", *model_table(model), ""]
    return "\n".join(text) + "\n"


def settings_of(stage: str) -> type[BaseModel]:
    """The settings model of a stage."""
    model = model_in(RunConfig.model_fields[stage].annotation)
    assert model is not None
    return model


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model in an annotation such as `dict[str, Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for part in get_args(annotation) if (m := model_in(part))), None)


def model_table(model: type[BaseModel], prefix: str = "") -> list[str]:
    """A Markdown table of a model's keys."""
    rows = ["| key | type | meaning |", "|---|---|---|"]
    return rows + key_rows(model, prefix)


def key_rows(model: type[BaseModel], prefix: str) -> list[str]:
    """Rows of the keys, those of nested models below them."""
    rows = []
    for name, field in model.model_fields.items():
        is_handed = name in HANDED or (name == "psf_beta" and model.__name__ == "StampsConfig")
        is_handed |= model.__name__ == "SelectionConfig" and name in ("targets", "sky")
        is_handed |= model.__name__ == "GatesConfig" and name in ("splits", "models")
        is_handed |= model.__name__ == "EnsembleConfig" and name == "lens_weight"
        is_handed |= model.__name__ == "ReportConfig" and name == "ensemble"
        section = {"MinedConfig": "mined", "AuditConfig": "audit"}.get(model.__name__, "")
        is_handed |= name in OF_REPORT.get(section, ())
        if is_handed and issubclass(model, StageConfig):
            continue
        has_default = not field.is_required() and field.default_factory is None
        default = f" Default: `{field.default!r}`." if has_default else ""
        meaning = " ".join((field.description or "").split())
        if not meaning and name in ("low", "high"):
            continue  # the ends of a range say nothing of their own
        rows.append(f"| `{prefix}{name}` | {type_text(field.annotation)} | {meaning}{default} |")
        inner = model_in(field.annotation)
        if inner is not None and inner not in (model, Span) and len(inner.model_fields) <= 30:
            rows += key_rows(inner, f"{prefix}{name}.")
    return rows


def type_text(annotation: Any) -> str:
    """A type as a person would write it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return type_text(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return " or ".join(type_text(a) for a in get_args(annotation) if a is not NoneType)
    if origin is not None:
        inner = ", ".join(type_text(a) for a in get_args(annotation) if a is not Ellipsis)
        return f"{getattr(origin, '__name__', 'one of')}[{inner}]".replace("Literal[", "one of [")
    if annotation is Span:
        return "{ low, high }"
    return getattr(annotation, "__name__", repr(annotation))


def main() -> int:
    """Write the pages, or with --check compare them."""
    stale = [p for p, text in pages().items() if not p.exists() or p.read_text() != text]
    if "--check" in sys.argv:
        print("\n".join(f"stale: {p.relative_to(HERE)}" for p in stale) or "docs are current")
        return bool(stale)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
