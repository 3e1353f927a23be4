"""Access to the axelrod package: its import, its moves, its histories and its errors."""

import inspect
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

from comity.errors import ComityError, one_line
from comity.players.scripted.axelrod_index import INSTALL, PREFIX


@cache
def package() -> ModuleType:
    """The axelrod package; `ComityError` if it is not installed."""
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        with _sources_found_once():
            import axelrod
    except ImportError as error:
        raise ComityError(
            f"players {PREFIX}NAME need the axelrod package; run: {INSTALL} ({error})"
        ) from error
    finally:
        # The package sets it for the whole process when it is imported.
        multiprocessing.set_start_method(before, force=True)  # type: ignore[arg-type]
    module: ModuleType = axelrod
    return module


@contextmanager
def _sources_found_once() -> Iterator[None]:
    """Let `inspect.getsource` remember what it finds.

    While it is imported, the package looks for the source of 38 functions 15,000 times, in 6 of
    its 11 seconds.
    """
    original, found = inspect.getsource, cache(inspect.getsource)

    def once(one: Any) -> str:
        return found(getattr(one, "__func__", one))

    inspect.getsource = once  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getsource = original


@cache
def actions() -> tuple[Any, Any]:
    """The package's moves by our index."""
    return package().Action.C, package().Action.D


def stand_in() -> Any:
    """A player object that only holds a history, for an opponent that is not the package's."""
    player = package().Player()
    count_lazily(player)
    return player


def count_lazily(player: Any) -> None:
    """Let a player object that has seen nothing count its history only when it is asked.

    The package counts moves and joint moves after every round, which takes as long as a simple
    strategy's decision, and most strategies never ask.
    """
    if type(player._history) is package().History and not player._history:
        player._history = _lazy_history()()


@cache
def _lazy_history() -> Any:
    """The package's `History`, with counters that catch up when they are read."""

    class LazyHistory(package().History):  # type: ignore[misc,name-defined]
        def __init__(self, plays: Any = None, coplays: Any = None) -> None:
            self._plays, self._coplays = list(plays or ()), list(coplays or ())
            self._counted = 0
            self._count: Counter[Any] = Counter()
            self._joint_count: Counter[Any] = Counter()

        def append(self, play: Any, coplay: Any) -> None:
            self._plays.append(play)
            self._coplays.append(coplay)

        def extend(self, plays: Any, coplays: Any) -> None:
            self._plays.extend(plays)
            self._coplays.extend(coplays)

        def reset(self) -> None:
            self.__init__()  # type: ignore[misc]

        def _catch_up(self) -> None:
            for place in range(self._counted, len(self._plays)):
                self._count[self._plays[place]] += 1
                self._joint_count[self._plays[place], self._coplays[place]] += 1
            self._counted = len(self._plays)

        @property
        def _actions(self) -> Counter[Any]:
            self._catch_up()
            return self._count

        @property
        def _state_distribution(self) -> Counter[Any]:
            self._catch_up()
            return self._joint_count

    return LazyHistory


@contextmanager
def explained(name: str) -> Iterator[None]:
    """An error of the package's code becomes a `ComityError` that names the strategy."""
    try:
        yield
    except Exception as error:  # another package's code may raise anything
        name = name.removeprefix(PREFIX)
        raise ComityError(
            f"{PREFIX}{name} cannot play this game: the package's strategy raised "
            f"{one_line(error)} ({type(error).__name__}); some strategies need the payoffs of a "
            "prisoner's dilemma"
        ) from error
