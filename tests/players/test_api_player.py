"""Models behind an API as players, against a server on loopback."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comity.engines.api.answer_log import AnswerLog
from comity.engines.api.client import ApiClient
from comity.engines.api.settings import Endpoint
from comity.errors import ComityWarning
from comity.evaluation.metrics import api_outcomes, illegal, rate
from comity.games.base import Game
from comity.games.lengths import Fixed
from comity.players.api.player import ApiBackend, ApiPlayer
from comity.players.api.structured import unwrap
from comity.players.base import AsynchronousSession, MeteredBackend, RewindableSession
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.players.scripted.player import StrategyPlayer
from comity.prompts import PROMPTS
from comity.prompts.answers import ANSWERS
from comity.registry import build
from comity.rollout.counterfactuals import counterfactual_returns
from comity.rollout.play import Match, MissingMatchesError, Rollout, play
from tests.games.test_split import split
from tests.misbehaving_api import Json, Server, completion, every_third
from tests.worlds import dilemma

CONVERSATION = {"name": "conversation", "labels": ["A", "B"]}
Opened = Callable[..., ApiPlayer]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Makes players: `opened(server, prompt, answer, **setup)`; closes them."""
    made: list[ApiBackend] = []

    def new(
        server: Server,
        prompt: Json = CONVERSATION,
        answer: Any = "constrained",
        log: Path | None = None,
        tries: int = 8,
        deadline: float = 30.0,
        **setup: Any,
    ) -> ApiPlayer:
        endpoint = Endpoint(
            "fake",
            server.url,
            api_key_env=None,
            backoff=0.001,
            tries=tries,
            deadline=deadline,
            concurrency=8,
        )
        made.append(
            ApiBackend(
                ApiClient(endpoint, AnswerLog(log)),
                build("prompt", prompt, PROMPTS),
                build("answer", answer, ANSWERS),
                **setup,
            )
        )
        return ApiPlayer("api:fake", made[-1])

    yield new
    for backend in made:
        backend.close()


def scripted(name: str = "tit_for_tat") -> StrategyPlayer:
    return StrategyPlayer(name, build("player", name, MATRIX_STRATEGIES))


def matches(player: ApiPlayer, other: Any, count: int) -> list[Match]:
    return [Match(m, m, 100 + m, (player, other), (7, 0, m)) for m in range(count)]


def transcript(messages: list[Json]) -> str:
    """A chat as the records show it, up to the answer."""
    told = [f"[{one['role']}]\n{one['content']}" for one in messages]
    return "\n\n".join([*told, "[assistant]\n"])


def oracle(shown: str) -> str:
    """The only right answer to a chat."""
    return "AB"[hashlib.sha256(shown.encode()).digest()[0] % 2]


def shown_before(rollout: Rollout, number: int) -> str:
    """The transcript before the answer of a decision."""
    d = rollout.decisions[number]
    return "".join(map(chr, rollout.conversations[d.conversation].ids[: d.start]))


def test_one_chat_per_match_with_the_prompts_of_local_models(opened: Opened):
    game = dilemma(3)
    with Server(answer=lambda body: oracle(transcript(body["messages"]))) as server:
        player = opened(server, system="Be brief.")
        rollout = play(game, matches(player, scripted(), 4))
    asked = [d for d in rollout.decisions if d.controller == "api"]
    assert len(asked) == 12 and len(server.bodies) == 12
    assert all(d.text == "AB"[d.move] and d.parse_status == "legal" for d in asked)
    assert {d.player for d in asked} == {"api:fake"} and not any(d.trained for d in asked)
    for number, d in enumerate(rollout.decisions):
        if d.controller == "api":
            assert d.text == oracle(shown_before(rollout, number))
    longest = max(server.bodies, key=lambda body: len(body["messages"]))["messages"]
    assert [one["role"] for one in longest] == ["system", *["user", "assistant"] * 2, "user"]
    prompt = player.backend.prompt
    turn = game.turns(game.start(100))[0]
    assert longest[1]["content"] == prompt.opening(game, turn)
    # The records cover the whole conversation.
    for conversation in rollout.conversations:
        assert "".join(piece.text for piece in conversation.pieces) == "".join(
            map(chr, conversation.ids)
        )
        assert [p.text for p in conversation.pieces if p.kind == "answer"] == [
            d.text for d in asked if d.match == conversation.match
        ]


def test_one_shot_prompts_have_a_chat_per_decision(opened: Opened):
    with Server() as server:
        rollout = play(dilemma(3), matches(opened(server, {"name": "memory_one"}), scripted(), 2))
        assert all(len(body["messages"]) == 1 for body in server.bodies)
    assert len(rollout.conversations) == 6


def test_a_wrong_answer_is_quoted_back_with_the_reason(opened: Opened):
    said = iter(["I choose A!", "Definitely A.", "B"])
    with Server(answer=lambda body: next(said)) as server:
        answer = {"name": "attempts", "free_attempts": 3}
        rollout = play(dilemma(1), matches(opened(server, answer=answer), scripted(), 1))
    first, second, third = [d for d in rollout.decisions if d.controller == "api"]
    assert [first.kind, second.kind, third.kind] == ["attempt", "attempt", "choose"]
    assert third.move_name == "defect" and third.attempts == 3
    assert first.lenient_move == 0 and first.move == -1
    chat = server.bodies[2]["messages"]
    assert chat[1] == {"role": "assistant", "content": "I choose A!"}
    assert chat[2]["content"] == (
        'Your answer was "I choose A!". It cannot be read: it is not one of: A, B. '
        "Answer again, exactly in the format asked for."
    )
    assert api_outcomes(rollout.decisions) == {
        "legal": 1,
        "illegal": 2,
        "refused": 0,
        "cut_off": 0,
    }


def test_after_the_last_attempt_the_answer_stands_illegal(opened: Opened):
    with Server(answer=lambda body: "Both.") as server:
        player = opened(server, answer={"name": "attempts", "free_attempts": 2})
        rollout = play(dilemma(1), matches(player, scripted(), 1))
        assert len(server.bodies) == 2
        # Other formats have one attempt, and `attempts` of the seat takes precedence.
        play(dilemma(1), matches(opened(server), scripted(), 1))
        assert len(server.bodies) == 3
        play(dilemma(1), matches(opened(server, attempts=4), scripted(), 1))
        assert len(server.bodies) == 7
    last = [d for d in rollout.decisions if d.controller == "api"][-1]
    assert (last.move_name, last.parse_status, last.kind) == ("illegal", "other", "choose")


def test_the_four_outcomes_are_kept_apart(opened: Opened):
    answers = {
        0: completion("A"),
        1: completion("Never."),
        2: completion(None, refusal="I will not play."),
        3: completion("I think that", "length"),
        4: (503, {"error": {"message": "down"}}),
        5: completion("B", "length"),
    }
    with Server(answer=lambda body: answers[body["messages"][0]["content"].count("!")]) as server:
        prompt = _Marked(build("prompt", CONVERSATION, PROMPTS))
        player = opened(server, tries=2)
        object.__setattr__(player.backend, "prompt", prompt)
        rollout = play(dilemma(1), matches(player, scripted(), 6), allow_missing=True)
    found = {d.match: d.parse_status for d in rollout.decisions if d.controller == "api"}
    assert found == {0: "legal", 1: "other", 2: "refused", 3: "cut_off", 5: "legal"}
    assert set(rollout.missing) == {4} and "status 503" in rollout.missing[4]
    counted = api_outcomes(rollout.decisions)
    assert counted == {"legal": 2, "illegal": 1, "refused": 1, "cut_off": 1}
    assert rate(illegal([d for d in rollout.decisions if d.controller == "api"])) == 1 / 5
    # The missing match is nowhere: no decision of either seat, no conversation, no round.
    assert 4 not in {d.match for d in rollout.decisions}
    assert 4 not in {one.match for one in rollout.conversations}
    assert rollout.played.alive[:, 0].tolist() == [True] * 4 + [False, True]
    assert all(
        rollout.conversations[d.conversation].match == d.match
        for d in rollout.decisions
        if d.conversation >= 0
    )


class _Marked:
    """A prompt with as many exclamation marks as the number of its match."""

    single_turn = False
    random_parameters = ()

    def __init__(self, prompt: Any, marks: str = "") -> None:
        self.prompt, self.marks = prompt, marks

    def sample_variant(self, stream: tuple[int | str, ...]) -> "_Marked":
        return _Marked(self.prompt, "!" * int(stream[-1]))

    def opening(self, game: Game, turn: Any) -> str:
        return str(self.prompt.opening(game, turn)) + self.marks

    def __getattr__(self, name: str) -> Any:
        return getattr(self.prompt, name)


def test_a_match_that_cannot_be_played_is_missing_and_played_on_resume(
    opened: Opened, tmp_path: Path
):
    down = [True]

    def faults(number: int) -> str:
        return "server error" if number >= 10 and down[0] else ""

    log = tmp_path / "log.jsonl"
    with Server(faults, lambda body: oracle(transcript(body["messages"]))) as server:
        with pytest.raises(MissingMatchesError, match=r"4 of 4 matches are missing .* --resume"):
            play(dilemma(5), matches(opened(server, log=log, tries=2), scripted(), 4))
        kept = len(log.read_text().splitlines())
        assert kept == 10
        down[0], before = False, len(server.bodies)
        rollout = play(dilemma(5), matches(opened(server, log=log, tries=2), scripted(), 4))
        assert len(server.bodies) - before == 20 - kept
        whole = play(dilemma(5), matches(opened(server), scripted(), 4))
    assert [d.text for d in rollout.decisions] == [d.text for d in whole.decisions]
    np.testing.assert_array_equal(rollout.played.payoffs, whole.played.payoffs)


def test_alternatives_continue_the_chat_from_their_decision(opened: Opened):
    with Server(answer=lambda body: oracle(transcript(body["messages"]))) as server:
        player = opened(server)
        assert isinstance(player.backend, MeteredBackend)
        session = player.backend.open()
        assert isinstance(session, AsynchronousSession) and isinstance(session, RewindableSession)
        learner = StrategyPlayer("random", build("player", "random", MATRIX_STRATEGIES))
        object.__setattr__(learner, "trained", True)
        rollout = play(dilemma(3), matches(player, learner, 2), keep=True)
        asked = len(server.bodies)
        assert rollout.runner is not None
        returns = counterfactual_returns(rollout.runner, lambda played: played.payoffs, 1.0, 2)
    assert np.isfinite(returns[:, 1]).all()
    later = server.bodies[asked:]
    # From a decision in round r on, the API seat is asked in rounds r + 1 and later.
    assert Counter(len(body["messages"]) for body in later) == {3: 4, 5: 8}
    for body in later:
        told = body["messages"]
        for number in range(1, len(told), 2):
            assert told[number]["content"] == oracle(transcript(told[:number]))


def test_written_answers_are_read_by_their_form(opened: Opened):
    game = split((2, 3), ((3.0, 1.0), (1.0, 2.0)), payment="exact", messages=1, length=Fixed(1))
    prompt = build("prompt", "negotiation", PROMPTS)
    first = game.turns(game.start(0))
    form = prompt.form(game, first[0])
    assert form is not None
    message = form.format_text().replace("...", "I take the books")
    said = iter([message, "no delimiters", "???"])
    with Server(answer=lambda body: next(said)) as server:
        rollout = play(
            game,
            matches(opened(server, {"name": "negotiation"}), StrategyPlayer("x", _Silent()), 1),
        )
    mine = [d for d in rollout.decisions if d.controller == "api"]
    assert mine[0].kind == "message" and mine[0].message_as_read == "I take the books"
    assert [d.move for d in mine[1:]] == [-1] * (len(mine) - 1)
    assert mine[1].parse_status == "other"


class _Silent:
    kinds = ("message", "talk", "claim", "respond")

    def reply(self, turn: Any, game: Game, rng: np.random.Generator) -> Any:
        return "ok" if turn.kind in ("message", "talk") else (1, 1)


def test_structured_outputs_are_advisory(opened: Opened):
    said = iter(['{"answer": "A"}', "B", '{"answer": "C"}', '{"answer": 1}'])
    ignored = r"fake@.* without the JSON .* ignore it"
    with (
        Server(answer=lambda body: next(said)) as server,
        pytest.warns(ComityWarning, match=ignored) as warned,
    ):
        rollout = play(dilemma(4), matches(opened(server, structured=True), scripted(), 1))
    assert len(warned) == 1
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"answer": {"type": "string", "enum": ["A", "B"]}}
    mine = [d for d in rollout.decisions if d.controller == "api"]
    assert [d.text for d in mine] == ["A", "B", "C", '{"answer": 1}']
    assert [d.move for d in mine] == [0, 1, -1, -1]
    # Recorded as constrained where the server kept to the schema.
    assert [d.constrained for d in mine] == [True, False, True, False]
    assert unwrap('{"answer": "A", "why": "x"}') is None


@pytest.mark.filterwarnings("error")
def test_a_schema_that_is_kept_to_and_answers_that_were_cut_off_are_no_warning(opened: Opened):
    said = iter(['{"answer": "A"}', completion('{"ans', "length")])
    with Server(answer=lambda body: next(said)) as server:
        rollout = play(dilemma(2), matches(opened(server, structured=True), scripted(), 1))
    mine = [d for d in rollout.decisions if d.controller == "api"]
    assert [d.parse_status for d in mine] == ["legal", "cut_off"]


def test_a_thinking_block_is_a_part_of_its_own(opened: Opened):
    with Server(answer=lambda body: "<think>A is kind.</think>\nA") as server:
        player = opened(server, answer={"name": "constrained", "thinking": 50})
        rollout = play(dilemma(1), matches(player, scripted(), 1))
        assert "<think>...</think>" in server.bodies[0]["messages"][0]["content"]
    thought, answer = [d for d in rollout.decisions if d.controller == "api"]
    assert (thought.kind, thought.text) == ("think", "<think>A is kind.</think>")
    assert answer.move == 0


def check_a_faulty_server(
    opened: Opened, log: Path, count: int, rounds: int, quick: int = 3
) -> None:
    """Play against 30 % faults: nothing is lost, invented or double."""
    answer = lambda body: oracle(transcript(body["messages"]))  # noqa: E731
    with Server(lambda number: every_third(number, quick), answer, hang=1.4) as server:
        player = opened(server, log=log, deadline=1.0, tries=12)
        rollout = play(dilemma(rounds), matches(player, scripted(), count))
    decisions = [d for d in rollout.decisions if d.controller == "api"]
    places = {(d.match, d.round) for d in decisions}
    assert len(decisions) == len(places) == count * rounds  # None lost, none double.
    for number, d in enumerate(rollout.decisions):
        if d.controller == "api":  # None invented.
            assert d.text == oracle(shown_before(rollout, number))
    lines = log.read_text().splitlines()
    assert len(lines) == count * rounds == len(player.backend.client.log)
    faults = sum(made for fault, made in server.made.items() if fault)
    assert faults >= 0.29 * len(server.bodies)
    used = player.backend.client.used
    assert used.requests == count * rounds + sum(used.retries.values())
    # A request that reached its deadline on a busy machine may never have arrived.
    assert len(server.bodies) <= used.requests
    # On a busy machine a good answer may take longer than its deadline.
    assert sum(used.retries.values()) >= faults


def test_answers_from_a_server_that_fails_three_times_in_ten(opened: Opened, tmp_path: Path):
    check_a_faulty_server(opened, tmp_path / "log.jsonl", count=20, rounds=10)


@pytest.mark.slow
def test_three_thousand_answers_from_a_server_that_fails_three_times_in_ten(
    opened: Opened, tmp_path: Path
):
    """`count=1000` takes most of a minute and finds the same."""
    check_a_faulty_server(opened, tmp_path / "log.jsonl", count=300, rounds=10, quick=40)
