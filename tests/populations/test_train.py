"""A mixed population trains, is recorded, killed and resumed."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from comity.populations.episode import EpisodeGames
from comity.populations.records import RecordWriter, truncate
from comity.populations.settings import PopulationSettings
from comity.populations.train import build_population

MIXED = PopulationSettings("2xS_1xUT_1xDE_1xTFT_1xGEc_1xtabular:VEk", runs=2, iterations=30)


def recorded(folder: Path) -> dict[str, str]:
    """All tables of a folder of records by name, whatever their parts are."""
    return {
        where: repr(pq.read_table(folder / where).to_pylist())
        for where in (
            *(f"games/{one.name}" for one in (folder / "games").iterdir()),
            "statistics",
            "q_values",
        )
    }


def test_a_killed_population_goes_on_to_identical_numbers(tmp_path: Path) -> None:
    straight = build_population(MIXED)
    writer = RecordWriter(tmp_path / "straight", MIXED.numbers, episodes=8)
    straight.run(writer=writer, statistics_every=5)
    writer.flush()
    (tmp_path / "state").mkdir()
    first = build_population(MIXED)
    writer = RecordWriter(tmp_path / "killed", MIXED.numbers, episodes=8)
    first.run(until=15, writer=writer, statistics_every=5)
    writer.flush()
    first.save(tmp_path / "state")
    first.run(until=23, writer=writer, statistics_every=5)  # Lost, but its first part is written.
    second = build_population(MIXED)
    second.load(tmp_path / "state")
    truncate(tmp_path / "killed", second.episode)
    writer = RecordWriter(tmp_path / "killed", MIXED.numbers, episodes=8)
    second.run(writer=writer, statistics_every=5)
    writer.flush()
    assert recorded(tmp_path / "straight") == recorded(tmp_path / "killed")
    for name, condition in straight.conditions.items():
        ours = second.conditions[name].save()
        for part, arrays in condition.save().items():
            for key, array in arrays.items():
                assert np.array_equal(array, ours[part][key]), (name, part, key)


def test_a_run_alone_is_the_same_run_among_others() -> None:
    among, alone = [], []
    settings = PopulationSettings("3xS_2xDE_1xTFT", runs=5, iterations=40)

    def keep(where: list[EpisodeGames]):  # type: ignore[no-untyped-def]
        return lambda games: where.extend(games.values())

    population = build_population(settings)
    population.run(keep(among))
    other = build_population(PopulationSettings("3xS_2xDE_1xTFT", run_numbers=(3,), iterations=40))
    other.run(keep(alone))
    for one, two in zip(among, alone, strict=True):
        for name in ("selector", "selected", "selector_move", "selected_reward", "available"):
            assert np.array_equal(getattr(one, name)[3], getattr(two, name)[0]), name
    ours = population.conditions["selection"].groups["dqn"].save()
    theirs = other.conditions["selection"].groups["dqn"].save()
    for key in ("dilemma.parameters", "selection.parameters", "selection.square"):
        assert np.array_equal(ours[key].reshape(5, 5, -1)[3], theirs[key].reshape(5, -1)), key
