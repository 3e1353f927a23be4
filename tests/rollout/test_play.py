"""Lock-step play: what is recorded is what happened, and matches do not disturb each other."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from comity.engines.local.scoring import split_common_prefix
from comity.engines.token_masks import TokenMask
from comity.games.base import Game
from comity.players.base import Request, Response
from comity.players.language_model.player import Policy
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.players.scripted.player import StrategyPlayer
from comity.rollout.play import Match, Rollout, play
from tests.worlds import dilemma, learner, play_matches, tiny_models


def script(name: str) -> StrategyPlayer:
    return StrategyPlayer(name, MATRIX_STRATEGIES[name]())


def test_scripts_earn_what_the_table_says() -> None:
    rollout = play_matches(dilemma(10), (script("tit_for_tat"), script("always_defect")), 3)
    assert rollout.played.payoffs.mean(axis=(0, 2)).tolist() == [0.9, 1.4]
    assert len(rollout.decisions) == 60
    assert rollout.conversations == []
    first = rollout.decisions[0]
    assert (first.move_name, first.payoff, first.state) == ("cooperate", 0.0, [])
    assert [d.state for d in rollout.decisions if d.match == 0 and d.seat == 1][1] == [1, 0]


def check_records(rollout: Rollout, models_text: object) -> None:
    """Whatever was chosen stands in its conversation, where the record says."""
    for d in rollout.decisions:
        if d.conversation < 0:
            continue
        conversation = rollout.conversations[d.conversation]
        assert (conversation.match, conversation.seat) == (d.match, d.seat)
        assert conversation.ids[d.start : d.start + len(d.tokens)] == d.tokens
        assert ("answer", d.start) in {(p.kind, p.start) for p in conversation.pieces}
        if d.probabilities:
            assert sum(d.probabilities) == pytest.approx(1)
            assert np.exp(d.logprob) == pytest.approx(d.probabilities[d.legal.index(d.text)])
    for conversation in rollout.conversations:
        assert [p.start for p in conversation.pieces[1:]] == [
            p.end for p in conversation.pieces[:-1]
        ]
        assert conversation.pieces[-1].end == len(conversation.ids)


@pytest.mark.parametrize("prompt", ["conversation", "memory_one"])
@pytest.mark.parametrize("answer", ["constrained", "free"])
@pytest.mark.parametrize("labels", [["A", "B"], ["action1", "action2"], ["apple", "zoo"]])
def test_records_hold_what_was_chosen(prompt: str, answer: str, labels: list[str]) -> None:
    models = tiny_models(
        prompt={"name": prompt, "labels": labels}, answer={"name": answer}, adapters=("main", "b")
    )
    players = (learner(models), learner(models, "b"))
    rollout = play_matches(dilemma(3), players, 3)
    check_records(rollout, models)
    assert len(rollout.decisions) == 18
    growing = prompt == "conversation"
    assert len(rollout.conversations) == (6 if growing else 18)
    if answer == "constrained":
        assert all(d.move >= 0 for d in rollout.decisions)
        assert all(d.legal == labels for d in rollout.decisions)


def test_records_tell_how_an_answer_was_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a grammar: where the chosen tokens stand, what they were chosen from, why it ended."""
    player, mask = script("always_cooperate"), TokenMask(b"\x0c", 2)
    table = player.open()

    def answer(requests: Sequence[Request]) -> list[Response]:
        sampled = Response(
            0,
            "C.",
            tokens=(2, 3),
            offsets=(1, 4),
            masks=(mask, None),
            grammar="(C|D)[.]?",
            finish_reason="end",
        )
        return [sampled if request.turn.round else Response(0, "C") for request in requests]

    monkeypatch.setattr(table, "respond", answer)
    monkeypatch.setattr(StrategyPlayer, "open", lambda self: table)
    rollout = play_matches(dilemma(2), (player, player), 1)
    first, last = rollout.decisions[0], rollout.decisions[-1]
    assert (first.offsets, first.grammar, first.finish_reason) == ([], "", "")
    assert (last.offsets, last.grammar, last.finish_reason) == ([1, 4], "(C|D)[.]?", "end")
    assert rollout.masks == [(), (), (mask, None), (mask, None)]


def test_free_answers_may_be_illegal_and_follow_the_games_rule() -> None:
    models = tiny_models(answer={"name": "free", "max_tokens": 3})
    rollout = play_matches(dilemma(4), (learner(models), script("always_cooperate")), 6)
    illegal = [d for d in rollout.decisions if d.move == -1]
    assert illegal, "a random model answers with noise"
    assert all(d.move_name == "illegal" and d.played == 1 for d in illegal)
    for d in illegal:
        assert d.text.strip() not in ("A", "B")
        assert len(d.token_logprobs) == len(d.tokens) <= 3


def test_the_same_seed_gives_the_same_match_and_another_seed_another() -> None:
    def texts(seed: int) -> list[str]:
        models = tiny_models()
        rollout = play_matches(dilemma(6), (learner(models), learner(models)), 4, seed)
        return [d.text for d in rollout.decisions]

    assert texts(0) == texts(0)
    assert texts(0) != texts(1)


def test_a_match_does_not_depend_on_what_is_played_beside_it() -> None:
    models = tiny_models()
    game: Game = dilemma(5, noise=0.2)
    players = (learner(models), script("tit_for_tat"))
    matches = [Match(m, m, 10 + m, players, (0, 0, m)) for m in range(5)]
    together = play(game, matches)
    for match in matches:
        alone = play(game, [match])
        ours = [d for d in together.decisions if d.match == match.number]
        assert [(d.text, d.payoff) for d in alone.decisions] == [(d.text, d.payoff) for d in ours]


def test_groups_share_trembles_and_lengths() -> None:
    length = {"name": "geometric", "continue_probability": 0.7, "cap": 9}
    from comity.games import make_game

    game = make_game({"name": "prisoners_dilemma", "length": length, "noise": 0.3})
    players = (script("always_cooperate"), script("always_cooperate"))
    rollout = play_matches(game, players, 12, group_size=4)
    for group in range(3):
        members = rollout.played.moves[4 * group : 4 * group + 4]
        assert (members == members[0]).all()
    lengths = Counter(rollout.played.alive.sum(axis=1).tolist())
    assert len(lengths) > 1, "groups differ"


def test_probabilities_follow_the_temperature() -> None:
    models = tiny_models()
    game = dilemma(1)

    def odds(temperature: float) -> float:
        policy = Policy("p", models, "main", temperature)
        (first, *_) = play_matches(game, (policy, policy), 1).decisions
        return float(np.log(first.probabilities[0] / first.probabilities[1]))

    assert odds(0.5) == pytest.approx(2 * odds(1.0), rel=1e-4)


def test_what_all_answers_begin_with_is_told() -> None:
    assert split_common_prefix([[5, 6, 1], [5, 6, 2]]) == ([5, 6], ((1,), (2,)))
    assert split_common_prefix([[5], [6, 5]]) == ([], ((5,), (6, 5)))
    assert split_common_prefix([[7, 8]]) == ([7], ((8,),))


def test_three_seats_of_public_goods() -> None:
    from comity.games import make_game

    length = {"name": "fixed", "rounds": 3}
    game = make_game({"name": "public_goods", "seats": 3, "length": length})
    models = tiny_models(prompt={"name": "conversation"})
    rollout = play_matches(game, (learner(models), learner(models), script("always_defect")), 2)
    check_records(rollout, models)
    assert rollout.played.payoffs.shape == (2, 3, 3)
    assert all(len(d.state) == (3 if d.round else 0) for d in rollout.decisions)
