"""The `dhs` command. Only this module writes to the terminal; heavy imports wait for a command."""

import logging
import os
import re
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkhaloscope.core.errors import ConfigError, DarkHaloScopeError
from darkhaloscope.core.processes import StoppedError, check_alone, stop_on_signals

if TYPE_CHECKING:
    from darkhaloscope.core.config import RunConfig

app = typer.Typer(
    name="dhs",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Find strong gravitational lenses, and know how complete and pure the list is.",
)


class DeviceName(StrEnum):
    """Where tensors live."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class RuntimeName(StrEnum):
    """What runs a network."""

    torch = "torch"
    onnxruntime = "onnxruntime"
    openvino = "openvino"


class EngineName(StrEnum):
    """What runs the partitions."""

    local = "local"


RunFile = Annotated[Path, typer.Argument(metavar="FILE", help="The run's TOML file.")]
Workers = Annotated[
    int,
    typer.Option(
        min=0, help="Processes; 0: all in this one. Default: one a core.", show_default=False
    ),
]
DeviceOption = Annotated[DeviceName, typer.Option(help="Where tensors live.")]
CORES = os.cpu_count() or 1


def main() -> None:
    """Run the command: exit status 0 done, 2 a fault of the input, 1 a bug with its traceback."""
    stop_on_signals()
    try:
        app()
    except DarkHaloScopeError as error:
        typer.echo(f"dhs: {error}", err=True)
        sys.exit(2)
    except StoppedError as stop:
        typer.echo(
            f"dhs: stopped by {stop}; what was finished is kept, the same command goes on from it",
            err=True,
        )
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away
        sys.exit(0)


@app.callback()
def _logging(
    *, verbose: Annotated[bool, typer.Option("--verbose", help="Log every step.")] = False
) -> None:
    """Find strong gravitational lenses, and know how complete and pure the list is."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("darkhaloscope").setLevel(logging.DEBUG if verbose else logging.INFO)


@app.command()
def demo(
    *,
    out: Annotated[
        Path, typer.Option(help="Folder of the sky, the runs and their reports.")
    ] = Path("runs"),
    preset: Annotated[
        str, typer.Option(help="demo; first-run, its recipe; mining, in rounds: on one sky.")
    ] = "demo",
    workers: Workers = CORES,
    device: DeviceOption = DeviceName.auto,
) -> None:
    """Run the whole line on a simulated survey: minutes on a laptop."""
    from darkhaloscope import presets  # noqa: F401  (fails here, with its name, where the package is broken)
    from darkhaloscope.core import config as settings

    file = out / f"{preset}.toml"
    if not file.exists():
        _write_preset(file, preset)
    config = settings.load(file)
    if config.simulate is None:
        raise ConfigError(
            f"{file} has no [simulate] section, so there is no sky to draw; use `dhs run {file}`"
        )
    start = time.monotonic()
    _draw_sky(config, workers)
    made = _bring(config, [], workers, device, None)
    if not made:
        typer.echo("Everything is current; nothing was run.")
    _say_results(config, time.monotonic() - start)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the run file is written.")],
    *,
    preset: Annotated[str, typer.Option(help="demo, first-run, mining or legacy-dr10.")] = "demo",
    area: Annotated[
        str | None, typer.Option(metavar="RA0,RA1,DEC0,DEC1", help="Box on the sky, degrees.")
    ] = None,
) -> None:
    """Write a commented run file: presets demo, first-run, mining, legacy-dr10."""
    if file.exists():
        raise ConfigError(f"{file} is there already; choose another name, or delete it first")
    text = _write_preset(file, preset, area)
    if "# area = " in text:
        typer.echo(f"{file} written; fill in [survey] area, then: dhs run {file}")
    elif "[simulate]" in text:
        typer.echo(
            f"{file} written; draw its sky: dhs simulate {file.parent / 'sky'} --config {file}"
        )
        typer.echo(f"then: dhs run {file}")
    else:
        typer.echo(f"{file} written; read it through, then: dhs run {file}")


@app.command()
def run(
    file: RunFile,
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="Default: all.")
    ] = None,
    *,
    engine: Annotated[
        EngineName, typer.Option(help="What runs the partitions.")
    ] = EngineName.local,
    workers: Workers = CORES,
    only: Annotated[
        str | None, typer.Option(metavar="TILE", help="One tile, e.g. 32-4711.")
    ] = None,
    device: DeviceOption = DeviceName.auto,
) -> None:
    """Bring the stages, and all that they need, up to date."""
    from darkhaloscope.core import config as settings

    del engine  # one so far
    config = settings.load(file)
    start = time.monotonic()
    if not _bring(config, stages or [], workers, device, only):
        typer.echo(f"Everything{f' of tile {only}' if only else ''} is current; nothing was run.")
        if only:
            typer.echo("Stages that need all tiles wait for a run without --only.")
    if not only and set(stages or ["report"]) & {"report"}:
        _say_results(config, time.monotonic() - start)


@app.command()
def status(
    file: RunFile,
    *,
    every: Annotated[bool, typer.Option("--all", help="Name current partitions too.")] = False,
    device: DeviceOption = DeviceName.auto,
) -> None:
    """Say how every stage and tile stands: current, stale, missing, failed."""
    from darkhaloscope.core import config as settings
    from darkhaloscope.pipeline import run as pipeline
    from darkhaloscope.pipeline.registry import ORDER

    config = settings.load(file)
    states = pipeline.status(config, _device(device))
    for name in (name for name in ORDER if settings.is_asked(config, name)):
        of_stage = [s.state for s in states if s.stage == name]
        counts = {s: of_stage.count(s) for s in ("current", "stale", "missing", "failed")}
        known = "  ".join(f"{n} {s}" for s, n in counts.items() if n)
        typer.echo(f"{name:<12}{known or 'not known yet: needs splits'}")
    for s in states:
        if every or s.state in ("stale", "failed"):
            reason = s.message.partition("\n")[0]
            typer.echo(f"  {s.state:<8} {s.stage}/{s.partition}  {reason}")


@app.command()
def simulate(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the survey tree is written.")
    ],
    *,
    file: Annotated[
        Path | None, typer.Option("--config", help="Run file whose simulate section is used.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Preset whose simulate section is used.")] = "demo",
    workers: Workers = CORES,
) -> None:
    """Write a simulated survey tree in the Legacy Surveys' layout."""
    import tomllib

    from darkhaloscope.core import config as settings

    if file is None:
        config = settings.parse(
            tomllib.loads(_preset_text(preset)), folder=Path(), where=f"preset {preset}"
        )
    else:
        config = settings.load(file)
    if config.simulate is None:
        raise ConfigError(f"{file or preset} has no [simulate] section; the preset demo has one")
    survey = config.survey.model_copy(update={"root": settings.absolute(str(folder), Path())})
    _draw_sky(config.model_copy(update={"survey": survey}), workers)
    typer.echo(f"The sky is at {survey.root}, its truth in {survey.root}/truth")


@app.command()
def schema(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="Default: every table.")
    ] = None,
    *,
    bands: Annotated[str, typer.Option(help="The run's bands, one letter each.")] = "grz",
) -> None:
    """Print a table's columns, types, units and meaning."""
    from darkhaloscope.core import schemas

    if table is not None and table not in schemas.BY_NAME:
        raise ConfigError(
            f"there is no table {table!r}; the tables are {', '.join(schemas.BY_NAME)}"
        )
    if not bands or len(set(bands)) != len(bands) or not set(bands) <= set("grizy"):
        raise ConfigError(f"--bands wants letters of g r i z y, each once, e.g. grz; got {bands!r}")
    for name in [table] if table else list(schemas.BY_NAME):
        typer.echo(f"{name}: {(schemas.BY_NAME[name].__doc__ or '').strip()}")
        for field in schemas.BY_NAME[name](tuple(bands)):
            facts = {k.decode(): v.decode() for k, v in field.metadata.items()}
            null = " or null" if field.nullable else ""
            typer.echo(
                f"  {field.name:<28} {field.type!s:<8}{facts['unit']:<8} {facts['meaning']}{null}"
            )


@app.command()
def config(file: RunFile) -> None:
    """Print the settings of a run as they are used, every default and path filled in."""
    from darkhaloscope.core import config as settings

    typer.echo(settings.load(file).model_dump_json(indent=2))


@app.command(
    # argparse reads the words, so that they are the same where there is no typer
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
def bench(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="render|train|infer|spacewarps [--json] [--out FILE] ..."),
    ] = None,
) -> None:
    """Measure speed and error on this machine, beside peers: `dhs bench --help`."""
    from darkhaloscope.bench.entry import run as measure

    raise typer.Exit(measure(words or []))


@app.command()
def score(  # noqa: PLR0913  (one argument an option)
    model: Annotated[
        Path, typer.Argument(metavar="MODEL_FOLDER", help="A trained model: model/NAME/round=K.")
    ],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="FITS cutouts, or folders of them.")
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Table: .parquet, .csv or .ecsv.")
    ] = None,
    runtime: Annotated[RuntimeName, typer.Option(help="What runs the network.")] = (
        RuntimeName.torch
    ),
    bands: Annotated[
        str, typer.Option(metavar="B,B,...", help="Planes in order, where no header says.")
    ] = "",
    pixel_scale: Annotated[
        float | None, typer.Option(metavar="ARCSEC", help="Where no header says.")
    ] = None,
    zero_point: Annotated[
        float | None,
        typer.Option(metavar="MAG", help="AB mag of one unit of flux; 22.5: nanomaggies."),
    ] = None,
    sky_median: Annotated[
        str, typer.Option(metavar="X,X,...", help="nmgy, one a band; default: measured.")
    ] = "",
    sky_annulus: Annotated[
        str, typer.Option(metavar="IN,OUT", help="Radii of the sky in px, as in [cutouts].")
    ] = "28,38",
    told: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=VALUE", help="Told beside the pixels; repeatable."),
    ] = None,
    device: DeviceOption = DeviceName.auto,
) -> None:
    """Score FITS cutouts from anywhere with a trained model."""
    inner, outer = _numbers("--sky-annulus", sky_annulus, 2)
    sky = _numbers("--sky-median", sky_median) if sky_median else ()
    inputs = dict(_named_number(text) for text in told or [])
    try:
        from darkhaloscope import scoring
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("darkhaloscope"):
            raise
        raise ConfigError(
            f"{error.name} is not installed; `pip install 'darkhaloscope[nets]'` brings it"
        ) from error
    from darkhaloscope.survey.foreign import Stated

    if out is not None:
        scoring.check_name(out)
    asked = scoring.Asked(
        runtime=runtime.value,
        device=_device(device),
        stated=Stated(tuple(filter(None, re.split(r"[\s,]+", bands))), pixel_scale, zero_point),
        sky_median=sky,
        annulus_px=(inner, outer),
        inputs=inputs,
    )
    table = scoring.score(model, paths, asked)
    if out is None:
        typer.echo(scoring.summary(table, shown=None))
    else:
        scoring.write(table, out)
        typer.echo(scoring.summary(table))
        typer.echo(f"all in {out}")


@app.command(
    # argparse reads the words, so that they are the same where there is no typer
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
def benchmark(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[--quick] [--recipe NAME] [--set val|test] [--table] ..."),
    ] = None,
) -> None:
    """Train and judge recipes on the frozen benchmark: `dhs benchmark --help`."""
    from darkhaloscope.bench.entry import run as measure

    raise typer.Exit(measure(["benchmark", *(words or [])]))


@app.command(
    # argparse reads the words, so that they are the same where there is no typer
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
def evaluate(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCORES [--against SCORES2] [--thresholds FILE] [--out DIR] ..."),
    ] = None,
) -> None:
    """Report on any finder's scores (CSV, Parquet): `dhs evaluate --help`."""
    from darkhaloscope.evaluate.entry import run as report

    raise typer.Exit(report(words or []))


def _numbers(option: str, text: str, count: int | None = None) -> tuple[float, ...]:
    """Numbers of an option, with commas between them."""
    try:
        made = tuple(float(part) for part in text.split(","))
    except ValueError:
        made = ()
    if not made or (count is not None and len(made) != count):
        many = "" if count is None else f"{count} "
        raise ConfigError(f"{option} wants {many}numbers with commas between them; got {text!r}")
    return made


def _named_number(text: str) -> tuple[str, float]:
    """Of NAME=VALUE."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError as error:
        raise ConfigError(
            f"--input wants NAME=VALUE, e.g. psf_fwhm_r_arcsec=1.1; got {text!r}"
        ) from error


def _write_preset(file: Path, preset: str, area: str | None = None) -> str:
    """A preset as a new file, with the sky area filled in where one is given; its text."""
    text = _preset_text(preset)
    if area is not None and "# area = " not in text:
        raise ConfigError(f"preset {preset} draws its own sky; --area is for legacy-dr10")
    if area is not None:
        text = re.sub(r"^#? ?area = .*$", f"area = [{_box(area)}]", text, flags=re.MULTILINE)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}; choose another folder"
        ) from error
    return text


def _box(area: str) -> str:
    try:
        ra0, ra1, dec0, dec1 = (float(part) for part in area.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--area wants RA0,RA1,DEC0,DEC1 in degrees, e.g. 150,152,1,3; got {area!r}"
        ) from error
    if not (0 <= ra0 <= 360 and 0 <= ra1 <= 360 and ra0 != ra1 and -90 <= dec0 < dec1 <= 90):
        raise ConfigError(
            f"--area {area} is no box on the sky: RA in 0 to 360, Dec rising within -90 to 90"
        )
    return f"{{ ra_deg = [{ra0}, {ra1}], dec_deg = [{dec0}, {dec1}] }}"


def _preset_text(preset: str) -> str:
    from importlib.resources import files

    folder = files("darkhaloscope.presets")
    names = sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )
    if preset not in names:
        raise ConfigError(f"there is no preset {preset!r}; the presets are {', '.join(names)}")
    return (folder / f"{preset}.toml").read_text(encoding="utf-8")


def _draw_sky(config: "RunConfig", workers: int) -> None:
    """Write the simulated survey unless it is there already."""
    from darkhaloscope.simulate import survey as sky
    from darkhaloscope.terminal import Bar

    if config.simulate is None:
        return
    check_alone()
    with Bar() as bar:
        sky.write(
            config.simulate, Path(config.survey.root), workers=max(workers, 1), progress=bar.bricks
        )


def _bring(
    config: "RunConfig", stages: list[str], workers: int, device: DeviceName, only: str | None
) -> int:
    from darkhaloscope.engines.local import LocalEngine
    from darkhaloscope.pipeline import run as pipeline
    from darkhaloscope.terminal import Bar

    with LocalEngine(workers) as engine, Bar() as bar:
        return pipeline.bring_up_to_date(
            config, stages, engine=engine, device=_device(device), progress=bar, only=only
        )


def _device(name: DeviceName) -> "Device":
    from darkhaloscope.core.contracts import Device

    if name is DeviceName.cpu:
        return Device("cpu", CORES)
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            "torch is not installed; `pip install 'darkhaloscope[nets]'` brings it"
        ) from error
    has_gpu = torch.cuda.is_available()
    if name is DeviceName.cuda and not has_gpu:
        raise ConfigError("no CUDA device was found; use --device cpu")
    return Device("cuda" if has_gpu else "cpu", CORES)


def _say_results(config: "RunConfig", seconds: float) -> None:
    """Where the report and the candidates are, and the headline with its interval."""
    from darkhaloscope.terminal import headline

    typer.echo(headline(config.root))
    typer.echo(f"Candidates  {config.root}/candidates/candidates.parquet")
    typer.echo(f"Report      {config.root}/report/index.html")
    typer.echo(f"{seconds:.0f} s")


if TYPE_CHECKING:
    from darkhaloscope.core.contracts import Device

if __name__ == "__main__":
    main()
