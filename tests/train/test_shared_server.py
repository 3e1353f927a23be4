"""One vLLM server for several ranks: who loads adapters, who is told what, a lost server.

The ranks are threads with an engine each, the server is the twin. Whole runs are in
test_served_ranks.py.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from comity.config.compose import compose
from comity.config.schema import Config
from comity.distributed.process_group import ALONE, ProcessGroup
from comity.engines.local.scoring import ScoreRequest
from comity.errors import ComityError, WorkError
from comity.experiments import server_beside, shared_server, text_engines
from comity.experiments.shared_server import SharedServer, place
from comity.players.language_model.player import Policy
from tests.engines.text_engines import World
from tests.thread_ranks import PATIENCE, ThreadRank, on_ranks
from tests.vllm_twin import VllmTwin, make_twin, serving


class Place(ProcessGroup):
    """A place in a group, without the others."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


class Served:
    """A twin, and ranks that share it, each with an engine and the adapter `learner`."""

    def __init__(self, folder: Path, output: Path, twin: VllmTwin, url: Any) -> None:
        self.twin, self.folder, self.output = twin, folder, output
        self.worlds = [World(folder) for _ in range(2)]
        for world in self.worlds:
            world.add("learner", 1)
        self.url = url

    def config(self, *changes: str) -> Config:
        given = [f"engine.url={self.url}", f"engine.adapters={self.output}", *changes]
        return compose(
            "smoke", [f"model.name={self.folder}", "model.dtype=float32", "engine=vllm", *given]
        )

    def run(self, work: Callable[[ThreadRank, World], Any], *changes: str) -> list[Any]:
        """What `work` returns or raises on each rank after both have connected."""
        config = self.config(*changes)

        def one(ranks: ThreadRank) -> Any:
            world = self.worlds[ranks.rank]
            text_engines.choose_text_engine(world.engine, config, world.chat.tokenizer, ranks)
            return work(ranks, world)

        return on_ranks(2, one)


def matches(world: World) -> Any:
    """Matches that the learner plays."""
    backend: Any = SimpleNamespace(engine=world.engine)
    return [SimpleNamespace(players=(Policy("learner", backend, "learner"), object()))]


def sample(world: World, seeds: range) -> list[list[int]]:
    return [one.ids for _, one in world.sample(seeds, None, "learner")]


def together(ranks: ThreadRank, world: World) -> list[list[int]]:
    """Each rank samples an answer of its own."""
    seeds = range(ranks.rank, ranks.rank + 1)
    return text_engines.with_servers(ranks, partial(sample, world, seeds), matches(world))


@pytest.fixture
def served(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    monkeypatch.setattr(server_beside, "WAIT", 0.0)
    text_engines.disconnect()
    folder = tiny_model("llama")
    twin = make_twin(folder)
    with serving(twin) as url:
        yield Served(folder, tmp_path / "adapters", twin, url)
        text_engines.disconnect()
        assert twin.engine.adapters.names == []


def test_one_rank_loads_an_adapter_for_all(served: Served) -> None:
    def work(ranks: ThreadRank, world: World) -> list[list[list[int]]]:
        found = [together(ranks, world), together(ranks, world)]
        world.change("learner", 2)
        return [*found, together(ranks, world)]

    zero, one = served.run(work)
    check, first, second = served.twin.loaded
    assert "check" in check and first != second
    asked = [body["model"] for body in served.twin.bodies if body["model"] != "base"]
    assert asked == [first] * 4 + [second] * 2
    # The same as one process asks for.
    world = World(served.folder)
    world.add("learner", 1)
    text_engines.choose_text_engine(world.engine, served.config(), world.chat.tokenizer)
    assert zero[0] + one[0] == zero[1] + one[1] == sample(world, range(2))
    world.change("learner", 2)
    assert zero[2] + one[2] == sample(world, range(2))


def test_the_server_scores_answers_for_all_ranks(served: Served) -> None:
    """The rank in charge alone compares them with the local engine's; one adapter is loaded."""

    def work(ranks: ThreadRank, world: World) -> Any:
        def score() -> Any:
            session = world.engine.session()
            conversation = session.conversation("learner")
            conversation.append(world.prompt)
            return session.score([ScoreRequest(conversation, ((40,), (41, 50), (41, 60)))])[0]

        found = text_engines.with_servers(ranks, score, matches(world))
        world.engine.scorer = None
        return found, score()

    for found, local in served.run(work, "engine.scored=vllm"):
        np.testing.assert_allclose(found, local, atol=World.near)
    asked = [body for body in served.twin.bodies if "logprob_token_ids" in body]
    assert [body["model"] for body in asked if body["model"] != "base"] == [
        served.twin.loaded[1]
    ] * 4


def test_a_rank_that_loses_the_server_works_again_and_the_others_keep_their_work(
    served: Served,
) -> None:
    """The server has no adapters when it is back: rank 0 loads them again, for rank 1 alone."""
    worked: list[int] = []
    zero_has_finished = Event()

    def work(ranks: ThreadRank, world: World) -> list[list[list[int]]]:
        def own() -> list[list[int]]:
            worked.append(ranks.rank)
            if ranks.rank == 1 and worked.count(1) == 1:
                assert zero_has_finished.wait(PATIENCE)
                served.twin.forget()
            found = sample(world, range(ranks.rank, ranks.rank + 1))
            if ranks.rank == 0:
                zero_has_finished.set()
            return found

        return [together(ranks, world), text_engines.with_servers(ranks, own, matches(world))]

    for undisturbed, found in served.run(work):
        assert found == undisturbed
    assert sorted(worked) == [0, 1, 1]
    first, again = (name for name in served.twin.loaded if "learner" in name)
    assert first == again  # The same weights.


def test_a_server_that_ended_during_an_update_is_found_when_adapters_are_loaded(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconnect, reconnected = server_beside.ServerBeside.reconnect, []

    def again(self: Any, error: Any) -> Any:
        reconnected.append(str(error))
        served.twin.failures = 0
        return reconnect(self, error)

    monkeypatch.setattr(server_beside.ServerBeside, "reconnect", again)

    def work(ranks: ThreadRank, world: World) -> list[list[list[int]]]:
        found = [together(ranks, world)]
        world.change("learner", 2)
        if ranks.rank == 0:
            served.twin.forget()
            served.twin.failures = 1
        return [*found, together(ranks, world)]

    zero, one = served.run(work)
    assert zero[0] != zero[1] and one[0] != one[1]
    assert len(reconnected) == 1 and "load_lora_adapter" in reconnected[0]


def test_a_server_is_lost_a_bounded_number_of_times(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_server, "RESTARTS", 1)

    def work(ranks: ThreadRank, world: World) -> list[list[int]]:
        def own() -> list[list[int]]:
            if ranks.rank == 0:
                return []
            served.twin.forget()
            return sample(world, range(1))

        return text_engines.with_servers(ranks, own, matches(world))

    errors = served.run(work)
    assert all(isinstance(one, WorkError) and one.shared for one in errors), errors
    assert "after 1 new starts" in str(errors[0]) == str(errors[1])


def test_all_ranks_are_told_what_the_first_one_refuses(served: Served) -> None:
    served.twin.processed = False
    errors = served.run(together)
    assert all(isinstance(one, ComityError) and one.shared for one in errors), errors
    assert "processed_logprobs" in str(errors[0]) == str(errors[1])


def test_ranks_whose_adapters_differ_do_not_play(served: Served) -> None:
    served.worlds[1].change("learner", 3)
    errors = served.run(together)
    assert [str(one) for one in errors] == [
        "the adapter learner on rank 1 differs from rank 0's"
    ] * 2


def test_a_failure_of_one_rank_before_the_server_is_reached_ends_all(served: Served) -> None:
    """As if its model could not be loaded: the others do not wait for it."""

    def work(ranks: ThreadRank) -> Any:
        with ranks.together():
            if ranks.rank == 1:
                raise ComityError("no model")
            world = served.worlds[0]
            SharedServer(ranks, world.engine, served.config(), world.chat.tokenizer)

    errors = on_ranks(2, work)
    assert [str(one) for one in errors] == ["rank 1: no model", "no model"]
    assert not served.twin.loaded


def test_each_rank_has_a_server_of_a_list(served: Served) -> None:
    """Each has its own copy of the adapter; what one loses, the other does not load again."""
    other = make_twin(served.folder)
    with serving(other) as url:
        served.url = f"[{served.url},{url}]"

        def work(ranks: ThreadRank, world: World) -> Any:
            found = [together(ranks, world)]
            if ranks.rank == 1:
                other.forget()
            return [*found, together(ranks, world)]

        zero, one = served.run(work)
        assert zero[0] == zero[1] and one[0] == one[1] and zero != one
        counts = [sum("learner" in name for name in twin.loaded) for twin in (served.twin, other)]
        assert counts == [1, 2]
        text_engines.disconnect()
        assert other.engine.adapters.names == []


def test_ranks_are_divided_among_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consecutive ones; an address of this machine is another server on another machine."""

    def places(machine: str, *urls: str) -> list[tuple[str | None, str]]:
        monkeypatch.setattr(shared_server.platform, "node", lambda: machine)
        return [place(list(urls), Place(rank, 4)) for rank in range(4)]

    assert places("a") == [(None, "a")] * 4
    assert places("a", "http://127.0.0.1:8000") == [("http://127.0.0.1:8000", "a")] * 4
    assert places("a", "http://gpu:1", "http://[::1]:1") == [
        *[("http://gpu:1", "")] * 2,
        *[("http://[::1]:1", "a")] * 2,
    ]
    assert place(["http://gpu:1", "http://gpu:2"], ALONE) == ("http://gpu:1", "")
