"""Answers come as often as their recorded probabilities say, however they are given.

Each way of answering plays a few thousand short matches of a tiny random model. Every token (or
scored answer) is put with the others that were drawn in the same context, under the same mask
and at the same attempt, and their counts are held against the recorded probabilities by a
chi-square test. What is drawn after a failed attempt, a thought or a message is so tested given
what came before it: a number that is used twice shows there.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm

from comity.config.seats import scripted_player
from comity.games.base import Game
from comity.players.base import Response
from comity.players.language_model.player import LanguageModelBackend
from comity.players.language_model.session import LanguageModelSession
from comity.players.scripted.player import StrategyPlayer
from comity.prompts.exploration import EXPLORATION, Exploration, Instruction
from comity.rollout.counterfactuals import counterfactual_returns
from comity.rollout.followups import follow_up
from comity.rollout.play import Match, play
from tests.players.answer_models import Easy, split
from tests.worlds import dilemma, learner, tiny_models

MATCHES = 1000
"""Two seats each, so twice as many answers to a first question."""
FEW = 8.0
"""Outcomes that are expected less often are counted together."""
SURE = 1e-5
"""A correct sampler fails a whole test less often than this."""

Context = tuple[Any, ...]
Drawn = dict[Context, list[tuple[Any, float]]]
"""For each context what was drawn in it, with its recorded probability."""


@dataclass
class Observed:
    """All answers that a table gave, in branches too, with the ids that they followed."""

    drawn: Drawn
    kinds: Counter[str]


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observed]:
    """Notes every answer of every language model from now on."""
    found = Observed(defaultdict(list), Counter())
    original = LanguageModelSession.respond

    def answer(self: LanguageModelSession, requests: Any) -> list[Response]:
        answers = original(self, requests)
        for request, given in zip(requests, answers, strict=True):
            talk = self.transcripts[given.conversation]
            forked = len(request.stream) > 3
            where = (request.player.adapter, request.turn.seat, forked)
            for number, one in enumerate((*given.before, given)):
                # What was taken back was drawn where the answer that counts was.
                start = one.start if one.start >= 0 else given.start
                name = one.kind or ("constrained" if one.constrained else "answer")
                # Not by whether it failed: that would select among what was drawn.
                how = (
                    name
                    if name in ("think", "constrained")
                    else "scored"
                    if one.answers
                    else "free"
                )
                kind = (*where, how, sum(b.kind == "attempt" for b in given.before[:number]))
                found.kinds[f"{name}{' of an alternative' if forked else ''}"] += 1
                _note(found.drawn, kind, talk.ids, start, one)
        return answers

    monkeypatch.setattr(LanguageModelSession, "respond", answer)
    yield found


def _note(drawn: Drawn, kind: Context, ids: list[int], start: int, one: Response) -> None:
    """One answer's choices, each after what came before it."""
    if one.answers:
        context = (kind, tuple(ids[:start]), one.answers)
        drawn[context].append((one.tokens, float(np.exp(one.logprob))))
        return
    offsets = one.offsets or tuple(range(len(one.tokens)))
    inside = one.start >= 0
    chosen: tuple[int, ...] = ()
    for offset, token, logprob in zip(offsets, one.tokens, one.token_logprobs, strict=True):
        before = tuple(ids[start : start + offset]) if inside else chosen
        drawn[kind, tuple(ids[:start]), before].append((token, float(np.exp(logprob))))
        chosen += (token,)


def assert_as_recorded(drawn: Drawn, least: int = 300) -> int:
    """Chi-square for every context with enough draws; how many contexts those are."""
    tested = {context: found for context, found in drawn.items() if len(found) >= least}
    for context, found in tested.items():
        n, counts, chance = len(found), Counter(what for what, _ in found), dict(found)
        assert all(abs(p - chance[what]) < 1e-4 for what, p in found), "one context, one chance"
        often = [what for what, p in chance.items() if n * p >= FEW]
        expected = [n * chance[what] for what in often]
        seen = [counts[what] for what in often]
        rest = max(0.0, n - sum(expected))
        if rest >= FEW:
            expected.append(rest)
            seen.append(n - sum(seen))
        else:  # Whatever is as rare as that hardly comes.
            assert n - sum(seen) <= rest + 6 * np.sqrt(rest) + 6
        if len(expected) < 2:
            continue
        distance = sum((s - e) ** 2 / e for s, e in zip(seen, expected, strict=True))
        p_value = chi2.sf(distance, len(expected) - 1)
        assert p_value > SURE / len(tested), (context[0], n, p_value, seen, expected)
    return len(tested)


def assert_share(hits: int, n: int, p: float) -> None:
    """A count against its probability, at the same certainty."""
    z = (hits - n * p) / np.sqrt(n * p * (1 - p))
    assert abs(z) < norm.isf(SURE / 2), (hits, n, p)


LABELS = ["t", "!"]
LIKELY = 7.0
"""What the labels' logits are raised by, so that about half of the free answers can be read."""
ONE = {"name": "attempts", "claim_tokens": 1}
CHOICES: dict[str, dict[str, Any]] = {
    "scored": {"name": "constrained"},
    "free": {"name": "free", "max_tokens": 2},
    "attempts": {**ONE, "free_attempts": 2},
    "attempts and complaints": {**ONE, "free_attempts": 2, "retry_feedback": "append"},
    "attempts, illegal in the end": {**ONE, "free_attempts": 2, "fallback": "illegal"},
    "no free attempt": {"name": "attempts", "free_attempts": -1},
    "thinking": {"name": "constrained", "thinking": 1},
    "thinking and attempts": {**ONE, "thinking": 1},
}
WORDS: dict[str, dict[str, Any]] = {
    "grammar": {"name": "constrained", "message_tokens": 2},
    "grammar after attempts": {"name": "attempts", "free_attempts": 2, "message_tokens": 2},
    "grammar after a thought": {"name": "constrained", "thinking": 1, "message_tokens": 2},
}
EXPECTED = {
    "scored": {"answer"},
    "free": {"answer"},
    "attempts": {"answer", "attempt"},
    "attempts and complaints": {"answer", "attempt"},
    "attempts, illegal in the end": {"answer", "attempt"},
    "no free attempt": {"answer"},
    "thinking": {"answer", "think"},
    "thinking and attempts": {"answer", "think", "attempt"},
    # A claim under the grammar, and a response that is scored.
    "grammar": {"constrained", "answer"},
    "grammar after attempts": {"constrained", "answer", "attempt"},
    "grammar after a thought": {"constrained", "answer", "think"},
}


def matches(models: LanguageModelBackend, number: int = MATCHES) -> list[Match]:
    policy = learner(models)
    return [Match(m, m, m, (policy, policy), (0, 0, m)) for m in range(number)]


def world(way: str) -> tuple[Game, LanguageModelBackend]:
    if way in CHOICES:
        prompt = {"name": "conversation", "labels": LABELS}
        models = tiny_models(prompt=prompt, answer=CHOICES[way], noise=0.1)
        head, labels = models.engine.head, [models.chat.encode_answer(label) for label in LABELS]
        head.bias = torch.zeros(head.vocabulary)
        head.bias[[ids[0] for ids in labels]] = LIKELY
        return dilemma(1), models
    models = tiny_models(prompt={"name": "negotiation"}, answer=WORDS[way], noise=0.1)
    return split("ultimatum", 1), replace(models, prompt=Easy())


@pytest.mark.parametrize("way", [*CHOICES, *WORDS])
def test_every_way_of_answering(way: str, observed: Observed) -> None:
    game, models = world(way)
    play(game, matches(models))
    assert set(observed.kinds) == EXPECTED[way]
    assert min(observed.kinds.values()) > 300
    assert assert_as_recorded(observed.drawn) >= 2


@pytest.mark.parametrize("way", ["scored", "free", "attempts"])
def test_alternatives(way: str, observed: Observed) -> None:
    game, models = world(way)
    rollout = play(game, matches(models, 200), keep=True)
    assert rollout.runner is not None
    counterfactual_returns(rollout.runner, lambda played: played.payoffs, 1.0, alternatives=4)
    assert observed.kinds["answer of an alternative"] > 600
    assert assert_as_recorded(observed.drawn) >= 2


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_other_temperatures(temperature: float, observed: Observed) -> None:
    game, models = world("attempts")
    policy = learner(models, temperature=temperature)
    play(game, [Match(m, m, m, (policy, policy), (0, 0, m)) for m in range(MATCHES)])
    assert assert_as_recorded(observed.drawn) >= 2


def test_instructions_and_the_answers_to_them(observed: Observed) -> None:
    game, models = world("attempts")
    told = Exploration((Instruction("greedy", 0.3), Instruction("welfare_maximizing", 0.2)))
    rollout = play(game, matches(replace(models, exploration=told)))
    given = [
        [piece.text.strip() for piece in talk.pieces if piece.kind == EXPLORATION]
        for talk in rollout.conversations
    ]
    for one in told.instructions:
        assert_share(given.count([one.sentence]), len(given), one.probability)
    assert assert_as_recorded(observed.drawn, least=100) >= 6


def test_follow_up_questions() -> None:
    game, models = world("scored")
    played = matches(models, 500)
    rollout = play(game, played)
    decisions, conversations = follow_up(rollout, played, {"why": "Why?", "how": "How?"}, 2)
    drawn: Drawn = defaultdict(list)
    offset = len(rollout.conversations)
    for d in decisions:
        ids = conversations[d.conversation - offset].ids
        for n, (token, logprob) in enumerate(zip(d.tokens, d.token_logprobs, strict=True)):
            drawn[d.seat, tuple(ids[: d.start + n])].append((token, float(np.exp(logprob))))
    assert assert_as_recorded(drawn, least=150) >= 4


STRATEGIES: dict[str, tuple[Game, Callable[[Any], bool], float]] = {
    "a coin's toss": (dilemma(2), lambda d: d.move == 0, 0.3),
    "a trembling hand": (dilemma(2, noise=0.2), lambda d: d.played != d.move, 0.2),
    "claims": (split("split_no_talk", 1), lambda d: d.claim[0] == d.stock[0], 1 / 11),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_scripts_and_the_games_own_chances(name: str) -> None:
    game, happens, probability = STRATEGIES[name]
    claims = name == "claims"
    seat: Any = "uniform_random_claims" if claims else {"name": "random", "p": 0.3}
    player: StrategyPlayer = scripted_player(seat)
    rollout = play(game, [Match(m, m, m, (player, player), (0, 0, m)) for m in range(1000)])
    assert_share(sum(map(happens, rollout.decisions)), len(rollout.decisions), probability)
    # Neither a seat nor a round follows from another.
    places = sorted({(d.seat, d.round) for d in rollout.decisions})
    table = np.array(
        [[happens(d) for d in rollout.decisions if (d.seat, d.round) == p] for p in places]
    )
    for one in range(len(places)):
        for other in range(one):
            both = int((table[one] & table[other]).sum())
            assert_share(both, table.shape[1], probability**2)


def test_two_seats_of_one_policy_answer_independently() -> None:
    game, models = world("scored")
    rollout = play(game, matches(models, 3000))
    first, second = rollout.played.intended[:, :, 0].T
    chance = {d.seat: dict(zip(d.legal, d.probabilities, strict=True)) for d in rollout.decisions}
    p = [chance[seat][LABELS[0]] for seat in range(2)]
    assert_share(int(((first == 0) & (second == 0)).sum()), len(first), p[0] * p[1])


def test_the_test_sees_a_number_that_is_used_twice(
    observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fallbacks on the stream of the first attempt: recorded as before, and not drawn so."""
    from comity.players.base import Request

    rng = Request.rng
    monkeypatch.setattr(Request, "rng", lambda self, attempt=0, part="": rng(self, 0, part))
    game, models = world("attempts")
    play(game, matches(models))
    assert 600 < observed.kinds["attempt"] < 3000
    with pytest.raises(AssertionError):
        assert_as_recorded(observed.drawn)
