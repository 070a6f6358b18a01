"""Recipes: a network and everything that its training is told, by name, in `recipes.toml`.

`[base]` holds what all have unless they say otherwise. A `[recipe.NAME]` changes some of it. A
`[lever.NAME]` changes one thing of the recipe `of`, and is asked for as `of+NAME`. A
`[committee.NAME]` lists members, each a recipe with its changes, that are trained on different data
and scored together.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from importlib import resources
from typing import Any

from darkhaloscope.bench.frozen import trivial
from darkhaloscope.core.errors import ConfigError
from darkhaloscope.ml import networks
from darkhaloscope.ml import recipe as fitting_recipe

FILE = "recipes.toml"
FIRST = "small"  # without a name
SEED = 1  # without a number
SEEDS_A_COMMITTEE = 100  # so that no two committees share a member's seed
LEVER = "+"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One network and how it is trained on the benchmark's galaxies.

    Attributes:
        name: As it is asked for.
        meaning: In words.
        network: Name of its design; `trivial`: boosted trees on radial profile and colours.
        head: `binary` or `kinds`.
        normalisation: What the network sees: `asinh` or `first_run`.
        softening_nmgy: Per band, of `asinh`, and the unit of the trivial model's fluxes.
        inputs: Extra inputs, columns of the galaxies such as `psf_fwhm_r_arcsec`.
        max_shift_px: Largest shift of a training stamp along each axis.
        mix: Share of each kind in a batch.
        batch_size: Stamps a step.
        stamps: Trained on in all, over `epochs`.
        epochs: Into which they are divided: a kill loses one at most.
        seed: Of weights, order, turns and draws.
        training: Of `ml.recipe.Recipe`: all but the number of epochs.
        controls: `paired`: the galaxies of the lenses, without; `unpaired`: other ones.
        prior: What of the definition's `[manifest]` is changed, table by table.
        hosts: What of the definition's `[hosts]` is changed; `family` is that of the galaxies.
        painting: What of the definition's `[stamps]` is changed.
        curriculum: Of `ml.levers.Curriculum`, with `share` of all steps; empty: none.
        balance_beta: Of `ml.levers.class_balanced`; None: kinds count as they come.
        waived: Gates that this recipe's data would fail, by name: recorded with its result.
    """

    name: str
    meaning: str
    network: str
    head: str
    normalisation: str
    softening_nmgy: Mapping[str, float]
    inputs: tuple[str, ...]
    max_shift_px: int
    mix: Mapping[str, float]
    batch_size: int
    stamps: int
    epochs: int
    seed: int
    training: Mapping[str, Any]
    controls: str
    prior: Mapping[str, Any] = field(default_factory=dict)
    hosts: Mapping[str, Any] = field(default_factory=dict)
    painting: Mapping[str, Any] = field(default_factory=dict)
    curriculum: Mapping[str, float] = field(default_factory=dict)
    balance_beta: float | None = None
    waived: tuple[str, ...] = ()

    @property
    def epoch_stamps(self) -> int:
        """Stamps an epoch: whole batches, at least one."""
        return max(self.stamps // self.epochs // self.batch_size, 1) * self.batch_size

    @property
    def sha256(self) -> str:
        """Names everything but the seed and the words."""
        said = asdict(self)
        for name in ("name", "meaning", "seed"):
            del said[name]
        return sha256_of(said)

    @property
    def is_trivial(self) -> bool:
        """Whether it is no network."""
        return self.network == trivial.NAME

    @property
    def gmac(self) -> float | None:
        """1e9 multiply-accumulates a stamp, forwards; None of what is no network."""
        return None if self.is_trivial else networks.DESIGNS[self.network].gmac

    def how(self) -> fitting_recipe.Recipe:
        """What `ml.fit` is told."""
        return fitting_recipe.Recipe(max_epochs=self.epochs, **self.training)

    def seeded(self, seed: int) -> "Recipe":
        """The same with another seed."""
        return replace(self, seed=seed)

    def shortened(self, stamps: int) -> "Recipe":
        """The same on so many stamps; of few, in fewer epochs, each of 20 steps or more."""
        most = max(1, stamps // (20 * self.batch_size))
        warmup = min(self.training["warmup_steps"], stamps // self.batch_size // 10)
        told = {**self.training, "warmup_steps": warmup}
        return replace(self, stamps=stamps, epochs=min(self.epochs, most), training=told)


@dataclass(frozen=True, slots=True)
class Committee:
    """Several recipes whose scores are combined on `calib`.

    Attributes:
        name: As it is asked for.
        meaning: In words.
        how: `mean` or `stack`, of `ml.combine`.
        members: In their order.
        seed: Of all members together.
    """

    name: str
    meaning: str
    how: str
    members: tuple[Recipe, ...]
    seed: int = SEED

    @property
    def stamps(self) -> int:
        """Trained on by all members together."""
        return sum(member.stamps for member in self.members)

    @property
    def gmac(self) -> float:
        """1e9 multiply-accumulates a stamp, forwards, of all members."""
        return sum(member.gmac or 0.0 for member in self.members)

    @property
    def waived(self) -> tuple[str, ...]:
        """Gates that any member waives."""
        return tuple(sorted({gate for member in self.members for gate in member.waived}))

    @property
    def sha256(self) -> str:
        """Names everything but the seed and the words."""
        return sha256_of({"how": self.how, "members": [member.sha256 for member in self.members]})

    def seeded(self, seed: int) -> "Committee":
        """The same with other seeds, all different."""
        first = SEEDS_A_COMMITTEE * seed
        members = tuple(m.seeded(first + place) for place, m in enumerate(self.members))
        return replace(self, members=members, seed=seed)

    def shortened(self, stamps: int) -> "Committee":
        """The same with so many stamps a member."""
        return replace(self, members=tuple(member.shortened(stamps) for member in self.members))


Asked = Recipe | Committee


def names() -> tuple[str, ...]:
    """Everything that can be asked for, in the order of the file."""
    said = _file()
    levers = [f"{lever['of']}{LEVER}{name}" for name, lever in said.get("lever", {}).items()]
    return (*said["recipe"], *levers, *said.get("committee", {}))


def named(name: str, *, seed: int = SEED, is_quick: bool = False) -> Asked:
    """A recipe, a lever or a committee.

    Args:
        name: Of `names()`.
        seed: Of it; of a committee it makes its members' seeds.
        is_quick: On fewer stamps, as `[quick]` of the file says.

    Raises:
        ConfigError: nothing has that name, or its settings cannot be used.
    """
    said = _file()
    if name not in names():
        raise ConfigError(f"there is no recipe {name!r}; the recipes are {', '.join(names())}")
    made: Asked
    if name in said.get("committee", {}):
        made = _committee(name, said["committee"][name])
    else:
        made = _recipe(name, said)
    made = made.seeded(seed)
    if not is_quick:
        return made
    divisor = said["quick"]["divisor"]
    if isinstance(made, Committee):
        members = tuple(m.shortened(m.stamps // divisor) for m in made.members)
        return replace(made, members=members)
    return made.shortened(made.stamps // divisor)


def trained(asked: Sequence[Asked]) -> tuple[Recipe, ...]:
    """All that has to be trained: recipes and members, each once."""
    found: dict[str, Recipe] = {}
    for one in asked:
        for recipe in one.members if isinstance(one, Committee) else (one,):
            found.setdefault(key(recipe), recipe)
    return tuple(found.values())


def key(one: Asked) -> str:
    """A name for files: recipe, seed, and the beginning of its sha256."""
    return f"{one.name}-{one.seed}-{one.sha256[:8]}".replace("/", "-")


def sha256_of(said: Any) -> str:
    """sha256 of plain values, whatever the order of their keys."""
    text = json.dumps(_plain(said), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A value that JSON can hold: infinity as a word."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    text = resources.files("darkhaloscope.bench.frozen").joinpath(FILE).read_text(encoding="utf-8")
    return tomllib.loads(text)


def _recipe(name: str, said: Mapping[str, Any]) -> Recipe:
    """A recipe, or a lever on one."""
    base, _, lever = name.partition(LEVER)
    settings = _over(said["base"], said["recipe"][base])
    if lever:
        settings = _over(settings, said["lever"][lever])
    return _made(name, settings)


def _committee(name: str, stated: Mapping[str, Any]) -> Committee:
    members = []
    for place, member in enumerate(stated["members"]):
        changed = dict(member)
        settings = _over(_settings_of(changed.pop("recipe")), changed)
        members.append(_made(f"{name}.{place + 1}", settings))
    return Committee(name, stated["meaning"], stated["how"], tuple(members))


def _settings_of(name: str) -> dict[str, Any]:
    said = _file()
    return _over(said["base"], said["recipe"][name])


def _over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some changed: `prior`, `hosts`, `painting` key by key, all else whole."""
    merged = {**under, **over}
    for name in ("prior", "hosts", "painting"):
        merged[name] = _merged(under.get(name, {}), over.get(name, {}))
    return merged


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(under)
    for name, value in over.items():
        before = made.get(name)
        both = isinstance(value, Mapping) and isinstance(before, Mapping)
        made[name] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return made


_OWN = frozenset(f.name for f in fields(Recipe)) - {"name", "training", "seed"}
_OPTIONAL = frozenset(
    {"prior", "hosts", "painting", "waived", "inputs", "curriculum", "balance_beta"}
)
_OF_TRAINING = frozenset(fitting_recipe.Recipe.__dataclass_fields__) - {"max_epochs"}


def _made(name: str, settings: Mapping[str, Any]) -> Recipe:
    unknown = sorted(set(settings) - _OWN - _OF_TRAINING - {"of"})
    missing = sorted(_OWN - set(settings) - _OPTIONAL)
    if unknown or missing:
        faults = [f"unknown: {', '.join(unknown)}"] if unknown else []
        faults += [f"missing: {', '.join(missing)}"] if missing else []
        raise ConfigError(f"recipe {name} of {FILE}: {'; '.join(faults)}")
    own = {key: settings[key] for key in _OWN & set(settings)}
    for listed in ("inputs", "waived"):
        own[listed] = tuple(own.get(listed, ()))
    if own["network"] != trivial.NAME and own["network"] not in networks.DESIGNS:
        known = ", ".join(networks.DESIGNS)
        raise ConfigError(f"recipe {name} of {FILE}: no network {own['network']!r}; known: {known}")
    told = {key: settings[key] for key in _OF_TRAINING & set(settings)}
    return Recipe(name=name, seed=SEED, training=told, **own)
