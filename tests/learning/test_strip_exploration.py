"""Exploration instructions are in the context of sampling, and in no training sequence."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from comity.engines.local.sampling import SamplingState
from comity.engines.local.session import Session
from comity.games.base import Game
from comity.games.randomness import ANSWER, generator
from comity.learning.advantages import StepRewards
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.critic import Critic, predict_values
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.strip_exploration import StrippedConversation
from comity.learning.training_batch import compute_terms, micro_batches, training_sequences
from comity.players.base import Request
from comity.players.language_model import scored_answers as choosing
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.prompts.exploration import EXPLORATION, INSTRUCTIONS, Exploration
from comity.rollout.counterfactuals import counterfactual_returns
from comity.rollout.play import Match, Rollout, play
from comity.rollout.records import Piece
from tests.players.answer_models import Easy, Terse, check_conversations, places, split, told
from tests.worlds import dilemma, learner, play_matches, tiny_folder, tiny_models

HALF = Exploration.of(
    [
        {"text": "greedy", "probability": 0.3},
        {"text": "Say little.", "probability": 0.3},
    ]
)
SENTENCES = {INSTRUCTIONS["greedy"], "Say little."}
OPTIMIZER = OptimizerSettings(learning_rate=0.01, gradient_clip=None)
CONSTRAINED = {"name": "constrained", "message_tokens": 6}
TRY = {"name": "attempts", "free_attempts": 3, "message_tokens": 6}
WORLDS: dict[str, tuple[dict[str, Any], type | None]] = {
    "dilemma": (CONSTRAINED, None),
    "free": ({"name": "free", "max_tokens": 3}, None),
    "thinking dilemma": ({**CONSTRAINED, "thinking": 6}, None),
    "split": (CONSTRAINED, Terse),
    "thinking": ({**CONSTRAINED, "thinking": 8}, Terse),
    "attempts": (TRY, Easy),
    "append": ({**TRY, "retry_feedback": "append"}, Easy),
}


def world(name: str, architecture: str = "llama") -> tuple[Game, LanguageModelBackend]:
    answer, prompt = WORLDS[name]
    block = {"name": "negotiation" if prompt else "conversation"}
    models = tiny_models(architecture, block, answer, ("main", "b"))
    return (split(), told(models, prompt)) if prompt else (dilemma(3), models)


def exploring(
    models: LanguageModelBackend, exploration: Exploration = HALF
) -> LanguageModelBackend:
    return replace(models, exploration=exploration)


def rolled(game: Game, models: LanguageModelBackend, matches: int = 3) -> Rollout:
    rollout = play_matches(game, (learner(models), learner(models, "b")), matches)
    check_conversations(rollout, models)
    return rollout


def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on answers are kept; from the call of the result on they are given again."""
    kept: list[Any] = []
    again: Iterator[Any] | None = None
    continue_sampling, draw = Session.continue_sampling, choosing.sample_index

    def gone_on(self: Session, answers: Sequence[SamplingState], allow_pause: bool = False) -> None:
        if again is not None:
            for one, drawn in zip(answers, next(again), strict=True):
                for token, logprob in zip(drawn.ids, drawn.logprobs, strict=True):
                    one.accept(token, logprob)
            return
        continue_sampling(self, answers)
        kept.append([one.result() for one in answers])

    def picked(probabilities: np.ndarray, rng: np.random.Generator) -> int:
        if again is not None:
            return int(next(again))
        kept.append(draw(probabilities, rng))
        return int(kept[-1])

    monkeypatch.setattr(Session, "continue_sampling", gone_on)
    monkeypatch.setattr(choosing, "sample_index", picked)

    def repeat() -> None:
        nonlocal again
        again = iter(kept)

    return repeat


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_what_remains_are_the_ids_of_a_match_without_instructions(
    name: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token for token, where everybody gives the same answers; so are the decisions' places."""
    game, models = world(name, architecture)
    repeat = given(monkeypatch)
    explored = rolled(game, exploring(models))
    repeat()
    plain = rolled(game, models)
    spans = 0
    assert len(explored.conversations) == len(plain.conversations)
    for with_them, without in zip(explored.conversations, plain.conversations, strict=True):
        remainder = StrippedConversation.of(with_them)
        assert list(remainder.ids) == without.ids
        assert len(without.ids) == len(with_them.ids) - sum(b - a for a, b in remainder.removed)
        for piece in with_them.pieces:
            assert piece.kind != EXPLORATION or piece.text.strip() in SENTENCES
            spans += piece.kind == EXPLORATION
        assert all(piece.kind != EXPLORATION for piece in without.pieces)
    assert spans > 3
    moved = 0
    for d, e in zip(explored.decisions, plain.decisions, strict=True):
        assert (d.text, d.tokens, d.offsets, d.kind) == (e.text, e.tokens, e.offsets, e.kind)
        if d.start >= 0:
            remainder = StrippedConversation.of(explored.conversations[d.conversation])
            assert remainder.index_of(d.start) == e.start
            moved += d.start != e.start
    assert moved > 3
    for adapter in ("main", "b"):
        ours, theirs = (training_sequences(one, adapter, 1.0) for one in (explored, plain))
        assert [x.ids for x in ours] == [x.ids for x in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert [list(d.token_indices) for d in one.decisions] == [
                list(d.token_indices) for d in other.decisions
            ]


@pytest.mark.parametrize("name", ["free", "split"])
def test_one_instruction_a_round_at_its_first_turn(name: str) -> None:
    game, models = world(name)
    sure = Exploration.of([{"text": "Say little.", "probability": 1}])
    rollout = rolled(game, exploring(models, sure), 2)
    rounds = rollout.played.alive.shape[1]
    for talk in rollout.conversations:
        spans = [p for p in talk.pieces if p.kind == EXPLORATION]
        assert len(spans) == rounds
        # Before the first answer of each round, and in the text that asks for it.
        first = {}
        for d in rollout.decisions:
            if d.conversation == talk.conversation:
                first.setdefault(d.round, d.start)
        for number, span in enumerate(spans):
            before = 0 if number == 0 else first[number - 1]
            assert before < span.start < span.end <= first[number]


def test_nobody_but_the_trained_is_told() -> None:
    game, models = world("split")
    sure = exploring(models, Exploration.of([{"text": "Say little.", "probability": 1}]))
    others = (
        Policy("base", sure, None),
        Policy("frozen", sure, "b"),
        Policy("learner@000001", sure, "b", trained=False, past=True),
    )
    for other in others:
        rollout = play_matches(game, (learner(sure), other), 1)
        found = {
            t.seat: any(p.kind == EXPLORATION for p in t.pieces) for t in rollout.conversations
        }
        assert found == {0: True, 1: False}
        alone = play_matches(game, (other, other), 1)
        plain = play_matches(game, (replace(other, backend=models),) * 2, 1)
        assert str(alone.decisions) == str(plain.decisions)
        assert alone.conversations == plain.conversations


def test_where_nothing_is_drawn_everything_is_as_without() -> None:
    """No other random number of the match is moved, and no token."""
    for name in ("dilemma", "split", "append"):
        game, models = world(name)
        seldom = Exploration.of([{"text": "greedy", "probability": 1e-9}])
        rollouts = [rolled(game, one, 2) for one in (models, exploring(models, seldom))]
        assert str(rollouts[0].decisions) == str(rollouts[1].decisions)
        assert rollouts[0].conversations == rollouts[1].conversations


def test_the_first_rounds_of_who_is_told_nothing_stay_as_they_are() -> None:
    """And all deals do, whoever is told what."""
    game, models = world("split")
    seldom = exploring(models, Exploration.of([{"text": "greedy", "probability": 0.2}]))
    plain, explored = (rolled(game, one, 5) for one in (models, seldom))
    noisy = {
        m
        for m in range(5)
        if any(seldom.exploration.sample_instruction((0, 0, m), seat, 0) for seat in range(2))
    }
    assert 0 < len(noisy) < 5
    changed = set()
    for d, e in zip(plain.decisions, explored.decisions, strict=True):
        assert (d.seed, d.stock, d.values) == (e.seed, e.stock, e.values)
        same = np.allclose(d.logprob, e.logprob, atol=1e-4) and (d.text, d.start) == (
            e.text,
            e.start,
        )
        if d.round == 0 and not same:
            changed.add(d.match)
    assert changed == noisy


# ---- learning --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def free() -> tuple[LanguageModelBackend, Rollout]:
    """Free answers in a dilemma, with advantages."""
    game, models = world("free")
    models = exploring(models)
    rollout = rolled(game, models)
    for number, d in enumerate(rollout.decisions):
        d.advantage = d.reward = float(number % 3) - 1.0
    return models, rollout


def plain_logprobs(twin: Any, ids: Any, at: list[int]) -> list[float]:
    """log p of the ids at some places, by the model as PEFT runs it."""
    with torch.no_grad():
        logits = twin(torch.tensor([list(ids)])).logits[0].float()
    table = torch.log_softmax(logits, dim=-1)
    return [float(table[place - 1, ids[place]]) for place in at]


def test_behavior_is_prompted_and_what_is_learned_is_not(
    free: tuple[LanguageModelBackend, Rollout], tmp_path: Path
) -> None:
    models, rollout = free
    models.engine.adapters.save("main", tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"), dtype=torch.float32)
    twin = PeftModel.from_pretrained(base, str(tmp_path))
    found = training_sequences(rollout, "main", 1.0)
    outputs = compute_terms(models.engine, found, "main", gradients=False).logprobs.tolist()
    terms = iter(outputs)
    differ = 0
    for sequence in found:
        for one in sequence.decisions:
            d = rollout.decisions[one.source]
            talk = rollout.conversations[d.conversation]
            assert list(one.behavior) == d.token_logprobs
            sampled = plain_logprobs(twin, talk.ids, places(d))
            assert d.token_logprobs == pytest.approx(sampled, abs=1e-4)
            learned = plain_logprobs(
                twin, StrippedConversation.of(talk).ids, list(one.token_indices)
            )
            ours = [next(terms) for _ in one.tokens]
            assert ours == pytest.approx(learned, abs=1e-4)
            differ += not np.allclose(sampled, learned, atol=1e-3)
    assert next(terms, None) is None and differ > 2


def test_the_weights_of_an_update_are_between_the_two(
    free: tuple[LanguageModelBackend, Rollout], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, rollout = free
    found = training_sequences(rollout, "main", 1.0)
    outputs = compute_terms(models.engine, found, "main", gradients=False).logprobs
    behavior = torch.tensor(
        [b for sequence in found for d in sequence.decisions for b in d.behavior]
    )
    rho = (outputs - behavior).exp()
    settings = LossSettings(kl=0.1, importance_cap=2.0)
    one = Learner(models.engine, "main", OPTIMIZER, settings, 9)
    monkeypatch.setattr(one, "optimizer_step", lambda loss: 0.0)
    row = one.update(found, rollout.recording)
    assert row["importance_mean"] == pytest.approx(float(rho.mean()), abs=1e-4)
    assert row["importance_max"] == pytest.approx(float(rho.max()), abs=1e-4)
    assert row["importance_max"] > 1.1, "instructions change what is answered"
    # The reference, too, reads what the learner reads.
    reference = one.reference.logprobs(found)
    again = compute_terms(models.engine, found, None, gradients=False).logprobs
    assert torch.equal(reference, again)
    gap = reference - outputs
    k3 = (gap.exp() - gap - 1).mean()
    assert row["kl"] == pytest.approx(float(k3), abs=1e-4)


def test_conversations_that_become_one_are_computed_once() -> None:
    """Two that differ in an instruction alone cost what one costs."""
    game, models = world("free")
    rollout = rolled(game, models, 1)
    (talk,) = [t for t in rollout.conversations if t.adapter == "main"]
    own = [d for d in rollout.decisions if d.adapter == "main"]
    at, line = talk.pieces[0].end - 3, models.chat.encode_text("\nSay little.")
    copies = [talk, replace(talk, ids=[*talk.ids[:at], *line, *talk.ids[at:]], pieces=[])]
    copies[1].pieces = [Piece(EXPLORATION, at, at + len(line), "")]
    moved = [replace(d, conversation=1, match=1, start=d.start + len(line)) for d in own]
    for d in own:
        d.conversation = 0
    both = replace(
        rollout,
        decisions=[*own, *moved],
        answers=[()] * 2 * len(own),
        masks=[()] * 2 * len(own),
        conversations=copies,
    )
    once = replace(both, decisions=own, answers=[()] * len(own), masks=[()] * len(own))
    costs = []
    for one in (once, both):
        found = training_sequences(one, "main", 1.0)
        before = models.engine.tokens_computed
        outputs = compute_terms(models.engine, found, "main", gradients=False)
        costs.append(models.engine.tokens_computed - before)
        assert len({sequence.ids for sequence in found}) == 1
        assert len(micro_batches(found, 0, len(found[0].ids))) == 1
    assert costs[0] == costs[1] > 0
    half = len(outputs.logprobs) // 2
    assert torch.equal(outputs.logprobs[:half], outputs.logprobs[half:])


def test_the_critic_judges_what_is_learned_from(free: tuple[LanguageModelBackend, Rollout]) -> None:
    models, rollout = free
    for name in ("main:critic", "b:critic"):
        if name not in models.engine.adapters.names:
            models.engine.adapters.add(name, rank=4, alpha=8, seed=7)
    learners = {}
    for name in ("main", "b"):
        one = Learner(models.engine, name, OPTIMIZER, LossSettings(), 9)
        one.critic = Critic(models.engine, f"{name}:critic", OPTIMIZER, 9, seed=3)
        with torch.no_grad():
            one.critic.value_head.linear.weight.normal_(
                generator=torch.Generator().manual_seed(len(name))
            )
        learners[name] = one
    talks, decisions = [], []
    for talk in rollout.conversations:
        talks.append(replace(talk, ids=list(StrippedConversation.of(talk).ids), pieces=[]))
    for d in rollout.decisions:
        remainder = StrippedConversation.of(rollout.conversations[d.conversation])
        decisions.append(replace(d, start=remainder.index_of(d.start)))
    bare = replace(rollout, conversations=talks, decisions=decisions)
    values: list[Any] = []
    targeted: list[Any] = []
    for one in (rollout, bare):
        step_rewards = StepRewards.of(one.decisions, one.played.payoffs, one.played.alive, "rounds")
        estimates = predict_values(one, step_rewards, learners, Reinforce(estimator="gae"))
        assert estimates.values is not None and np.isfinite(estimates.values).all()
        values.append(estimates.values)
        estimates.set_value_targets(np.ones(step_rewards.rewards.shape))
        targeted.append([learner.critic._sequences for learner in learners.values()])
    assert np.array_equal(*values)
    assert targeted[0] == targeted[1]


# ---- alternatives ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["dilemma", "split", "append"])
def test_alternatives_are_told_what_the_match_was_told(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the trunk's random numbers every branch then is the trunk."""
    game, models = world(name)
    models = exploring(models)

    def rng(self: Request, attempt: int = 0, part: str = "") -> np.random.Generator:
        turn = self.turn
        place = (turn.seat, turn.round, turn.step, attempt)
        return generator(*self.stream[:3], ANSWER, *place, *([part] if part else []))

    monkeypatch.setattr(Request, "rng", rng)
    players = (learner(models), learner(models, "b"))
    rollout = play(game, [Match(m, m, m, players, (0, 0, m)) for m in range(2)], keep=True)
    assert rollout.runner is not None
    assert any(p.kind == EXPLORATION for t in rollout.conversations for p in t.pieces)
    counterfactual_returns(rollout.runner, lambda p: p.payoffs, 1.0, 1)
    table = rollout.runner.sessions[models]
    trunk: Mapping[int, list[list[int]]] = {
        seat: [t.ids for t in rollout.conversations if t.seat == seat] for seat in range(2)
    }
    branches = table.transcripts[len(rollout.conversations) :]
    assert branches
    for talk in branches:
        assert talk.ids in trunk[talk.seat]
