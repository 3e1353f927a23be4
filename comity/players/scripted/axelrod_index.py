"""The names and classifiers of the axelrod package's strategies, known without importing it.

Importing the package takes 10 to 20 seconds, because it classifies all of its strategies each time.
Names are checked and listed much more often than they are played, so they stand in a table,
`axelrod_strategies.csv`, made from the package by `make docs`. A strategy of a newer version of the
package is looked up in the package itself.
"""

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources

from comity.errors import ComityError, close_names

PREFIX = "axelrod:"
"""What a player's name begins with: `axelrod:Gradual`."""
PACKAGE = "axelrod"
INSTALL = "pip install 'comity[axelrod]'"
TABLE = "axelrod_strategies.csv"
USES = {"game": "payoffs", "length": "length"}
"""What a strategy may use, by the package's name for it."""


@dataclass(frozen=True)
class Classified:
    """A strategy of the package and what the package says of it (its classifiers)."""

    class_name: str
    """The name of its class, which is its name here: `TitForTat`."""
    title: str
    """The package's name for it: "Tit For Tat"."""
    memory_depth: float
    """Number of rounds that it remembers; infinity: all, or an unbounded state."""
    stochastic: bool
    long_run_time: bool
    inspects_source: bool
    """It reads the other player's code or simulates it."""
    manipulates_source: bool
    manipulates_state: bool
    """It changes the other's state, or keeps its own from match to match."""
    makes_use_of: tuple[str, ...]
    """Keys of `USES`."""

    @property
    def independent(self) -> bool:
        """Whether its matches depend on nothing but the moves in them."""
        return not (self.inspects_source or self.manipulates_source or self.manipulates_state)

    @property
    def notes(self) -> list[str]:
        """What is unusual about it, in words."""
        said = {
            "long run time": self.long_run_time,
            "inspects the other's source": self.inspects_source,
            "manipulates the other's source": self.manipulates_source,
            "manipulates state": self.manipulates_state,
            "not playable": not self.independent,
        }
        return [words for words, so in said.items() if so]

    @property
    def sentence(self) -> str:
        """Title and classifiers in one line."""
        depth = self.memory_depth
        memory = "long memory" if depth == float("inf") else f"memory {depth:g}"
        uses = [f"uses the {USES[one]}" for one in self.makes_use_of]
        words = ["stochastic" if self.stochastic else "deterministic", memory, *uses, *self.notes]
        return f"{self.title}: {', '.join(words)}."


def is_axelrod(name: object) -> bool:
    """Whether a player's name is one of the package's strategies (`axelrod:NAME`)."""
    return isinstance(name, str) and name.startswith(PREFIX)


@cache
def table() -> dict[str, Classified]:
    """The strategies of the package's version that the table was made from, by class name."""
    found = {}
    for row in csv.DictReader(_lines()[1:]):
        flags = {key: value == "yes" for key, value in row.items() if value in ("yes", "no")}
        found[row["class_name"]] = Classified(
            class_name=row["class_name"],
            title=row["title"],
            memory_depth=float(row["memory_depth"]),
            makes_use_of=tuple(row["makes_use_of"].split()),
            **flags,
        )
    return found


def short_run_time() -> list[str]:
    """The class names of the strategies that play fast and can be played, in the table's order."""
    return [name for name, one in table().items() if one.independent and not one.long_run_time]


def class_name(name: str, parameters: bool = False) -> str:
    """The class name of `axelrod:NAME`, NAME a class name or title in any case, spaces or not.

    Raises `ComityError` with the nearest known names. A name that the table lacks is returned as
    it is, for the package to judge, if it comes with `parameters` (general classes such as `Cycler`
    are no strategies without them), or if the package's version is not that of the table.
    """
    asked = name.removeprefix(PREFIX)
    known = _spellings()
    if _key(asked) in known:
        return known[_key(asked)]
    newer = installed_version() not in (None, _table_version())
    if asked.isidentifier() and (parameters or newer):
        return asked
    titles = {one.class_name: one.title for one in table().values()}
    close = close_names(asked, [*titles, *titles.values()])
    near = list(dict.fromkeys(known[_key(one)] for one in close))
    hint = f"did you mean {' or '.join(PREFIX + one for one in near)}? " if near else ""
    raise ComityError(
        f"unknown strategy {name!r} of the axelrod package; {hint}"
        "all of them: comity list players axelrod"
    )


def installed_version() -> str | None:
    """The version of the installed package; None: not installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None


@cache
def _table_version() -> str:
    """The package's version that the table was made from: the last word of its first line."""
    return _lines()[0].split()[-1]


@cache
def _lines() -> list[str]:
    return (resources.files(__package__) / TABLE).read_text(encoding="utf-8").splitlines()


@cache
def _spellings() -> dict[str, str]:
    """Class name by every title and class name, in lower case and without spaces and signs."""
    found = {_key(one.title): one.class_name for one in table().values()}
    return found | {_key(name): name for name in table()}


def _key(name: str) -> str:
    """`name` in lower case, letters and digits only (all of it where it has none)."""
    return re.sub(r"[\W_]", "", name).lower() or name


def forget() -> None:
    """Read the table anew, after it was written."""
    for cached in (table, _lines, _spellings, _table_version):
        cached.cache_clear()
