"""Language models in a population: exact, batched, independent, resumable, and learning."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from comity.errors import ComityError
from comity.games.randomness import DRAWN_ONCE, recorded_streams
from comity.populations.agents.language_model import LanguageModelAgents, LanguageModelSettings
from comity.populations.agents.language_model_answers import AnswerSampler, Question
from comity.populations.agents.language_model_probes import (
    cooperation_probabilities,
    selection_probabilities,
)
from comity.populations.base import SelectionView
from tests.populations.arena import Arena, group_of
from tests.worlds import tiny_folder

LATEST = np.array([1, 0, 1, 0], dtype=np.int8)


def weights(group: LanguageModelAgents) -> dict[tuple[int, int], torch.Tensor]:
    """All weights of every agent's adapter, by (run, place)."""
    return {
        (run, place): torch.cat(
            [
                w.detach().flatten()
                for w in member.policy.backend.engine.adapters.parameters(
                    member.policy.adapter or ""
                ).values()
            ]
        ).clone()
        for run, place, member in group.everyone()
    }


def questions_of(group: LanguageModelAgents) -> list[Question]:
    """A selection and a dilemma question of every agent."""
    asked = []
    for run, place, member in group.everyone():
        stream = group.questions.stream(run, place, "select", 0)
        asked.append(group.questions.selection(member, place, LATEST, stream).question)
        stream = group.questions.stream(run, place, "act", 0, 1)
        asked.append(group.questions.dilemma(member, 0, (1, 0), stream))
    return asked


def test_probabilities_are_those_of_a_plain_forward(tmp_path: Any) -> None:
    """Of PEFT's own model, label by label, the whole label scored."""
    group = group_of(agents=(0, 1), temperature=0.7)
    for question, found in zip(
        questions_of(group), AnswerSampler().probabilities(questions_of(group)), strict=True
    ):
        setup, name = question.policy.backend, question.policy.adapter or ""
        setup.engine.adapters.save(name, tmp_path / name)
        plain = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"), dtype=torch.float32)
        twin = PeftModel.from_pretrained(plain, str(tmp_path / name))
        prompt = setup.opening_ids(question.text)
        scores = []
        labels = setup.chat.encode_labels(list(question.labels))
        shared = 0  # The first token that differs is scored without a normalizer.
        while len({ids[shared] for ids in labels}) == 1:
            shared += 1
        with torch.no_grad():
            for ids in labels:
                logits = twin(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].double() / 0.7
                places = range(len(prompt) - 1 + shared, len(prompt) + len(ids) - 1)
                parts = [logits[at, ids[at - len(prompt) + 1]] for at in places]
                norms = [torch.logsumexp(logits[at], -1) for at in places[1:]]
                scores.append(sum(parts) - sum(norms))
        expected = torch.softmax(torch.stack([torch.as_tensor(s) for s in scores]), 0)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_one_batch_equals_one_at_a_time() -> None:
    group = group_of(runs=(0, 1))
    together = AnswerSampler().ask(questions_of(group))
    for question, answer in zip(questions_of(group), together, strict=True):
        (alone,) = AnswerSampler().ask([question])
        assert (alone.choice, alone.ids) == (answer.choice, answer.ids)
        np.testing.assert_allclose(alone.probabilities, answer.probabilities, atol=1e-5)


def test_a_batch_is_one_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all agents and runs, when every label is a single token."""
    from comity.engines.local.engine import Engine

    group, calls = group_of(runs=(0, 1)), []
    forward = Engine.forward

    def counted(self: Engine, *given: Any, **more: Any) -> torch.Tensor:
        calls.append(1)
        return forward(self, *given, **more)

    monkeypatch.setattr(Engine, "forward", counted)
    group.select(SelectionView(0, np.tile(LATEST, (2, 1))))
    assert len(calls) == 1


def test_a_run_alone_is_that_run_among_others() -> None:
    arenas = [Arena(group_of(runs=runs)) for runs in ((0, 1), (1,))]
    for arena in arenas:
        arena.play(4)
    both, alone = (arena.history for arena in arenas)
    for one, other in zip(both, alone, strict=True):
        assert one[0][1] == other[0][0]
        assert one[1][len(one[1]) // 2 :] != [] and set(one[1]) <= {0, 1}
    together, apart = (weights(arena.group) for arena in arenas)
    for place in range(3):
        torch.testing.assert_close(together[1, place], apart[0, place], atol=1e-4, rtol=1e-3)


def test_another_agent_changes_no_draw_of_the_others() -> None:
    few, more = group_of(agents=(0, 1)), group_of(agents=(0, 1, 2))
    view = SelectionView(0, LATEST[None])
    assert few.select(view)[0].tolist() == more.select(view)[0, :2].tolist()


def test_frozen_agents_never_change_and_learners_do() -> None:
    group = group_of(frozen=(1,))
    before, probes = weights(group), selection_probabilities(group, LATEST)
    moves = cooperation_probabilities(group)
    Arena(group).play(4)
    after, now = weights(group), selection_probabilities(group, LATEST)
    assert torch.equal(before[0, 1], after[0, 1])
    assert not torch.equal(before[0, 0], after[0, 0])
    np.testing.assert_array_equal(probes[0, 1], now[0, 1])
    np.testing.assert_array_equal(moves[0, 1], cooperation_probabilities(group)[0, 1])
    assert np.abs(probes[0, 0] - now[0, 0]).max() > 0


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
@pytest.mark.parametrize("at", [3, 4])
def test_a_resumed_population_continues_identically(algorithm: str, at: int) -> None:
    """In the middle of a window, with a buffer, and right after an update."""
    arena = Arena(group_of(frozen=(2,), algorithm=algorithm))
    arena.play(at)
    state = {name: array.copy() for name, array in arena.group.save().items()}
    latest = arena.latest.copy()
    arena.play(3)

    other = Arena(group_of(frozen=(2,), algorithm=algorithm, rate=0.01))
    other.play(1)  # Whatever it was before.
    other.group.load(state)
    other.latest, other.episode, other.history = latest, at, []
    other.play(3)
    assert other.history == arena.history[at:]
    for one, two in zip(weights(arena.group).values(), weights(other.group).values(), strict=True):
        assert torch.equal(one, two)
    saved, again = arena.group.save(), other.group.save()
    assert saved.keys() == again.keys()
    assert all(np.array_equal(saved[name], again[name]) for name in saved)


def test_a_checkpoint_of_other_agents_is_refused() -> None:
    state = group_of(agents=(0, 1)).save()
    for other in (group_of(agents=(0, 2)), group_of(agents=(0, 1), frozen=(1,))):
        with pytest.raises(ComityError, match="other language models"):
            other.load(state)
    with pytest.raises(ComityError, match="cannot be read"):
        group_of(agents=(0, 1)).load({"something": np.zeros(1)})


def test_practice_changes_nothing() -> None:
    arenas = [Arena(group_of(), practice=practice) for practice in (False, True)]
    rows = [arena.play(4) for arena in arenas]
    assert arenas[0].history == arenas[1].history
    for one, two in zip(*(weights(arena.group).values() for arena in arenas), strict=True):
        assert torch.equal(one, two)
    for one, two in zip(*rows, strict=True):
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[name], two[name], equal_nan=True) for name in one)


def test_streams_are_named_and_no_answer_shares_one() -> None:
    arena = Arena(group_of(runs=(0, 3)), practice=False)
    with recorded_streams() as streams:
        arena.play(3)
        selection_probabilities(arena.group, LATEST, questions=2)
    assert {one.purpose for one in streams} == {"population"}
    assert {one.identity[:3] for one in streams} == {(7, 0, "population"), (7, 3, "population")}
    drawn = [one.identity for one in streams if one.identity[-1] in DRAWN_ONCE]
    assert len(drawn) == len(set(drawn))
    # Two runs, three agents: selections, and both sides of the games that are theirs.
    answers = [one for one in drawn if one[-1] == "answer"]
    assert sum("select" in one for one in answers) == 3 * 2 * 3
    assert not any("probe" in one for one in answers)


def test_updates_come_every_few_episodes_and_are_deferred() -> None:
    """With three agents an episode has 4 games: at least 2 decisions for each."""
    group = group_of(agents=(0, 1), min_decisions=10_000, episodes_per_update=2)
    rows = Arena(group).play(4)
    assert ["decisions" in row for row in rows] == [False, True, False, True]
    assert rows[3]["decisions"].tolist() == [[0, 0]] and np.isnan(rows[3]["loss"]).all()
    kept = group.members[0][0].trainer
    assert kept is not None and len(kept.buffer) >= 8 and kept.learner.version == 0
    learned = Arena(group_of(agents=(0, 1), episodes_per_update=2)).play(2)[1]
    assert (learned["decisions"] >= 4).all() and np.isfinite(learned["kl"]).all()


def test_statistics_are_exact_probabilities_of_the_episode() -> None:
    group = group_of(frozen=(0, 1, 2))
    group.select(SelectionView(0, LATEST[None]))
    row = group.update()
    for place, agent in enumerate(group.agents):
        question = group.questions.selection(
            group.members[0][place], place, LATEST, group.questions.stream(0, place, "select", 0)
        )
        (p,) = AnswerSampler().probabilities([question.question])
        entropy = -(p * np.log(p)).sum()
        assert row["selection_entropy"][0, place] == pytest.approx(entropy, abs=1e-5)
        cooperators = LATEST[question.candidates] == 0
        assert row["p_select_cooperator"][0, place] == pytest.approx(p[cooperators].sum(), abs=1e-5)
        others = np.delete(LATEST, agent)
        assert row["p_select_cooperator_chance"][0, place] == (others == 0).mean()
    assert np.isnan(group.update().get("p_select_cooperator", np.nan)).all()


def test_without_cooperators_there_is_nothing_to_report() -> None:
    group = group_of(frozen=(0, 1, 2))
    group.select(SelectionView(0, np.ones((1, 4), dtype=np.int8)))
    row = group.update()
    assert np.isnan(row["p_select_cooperator"]).all()
    assert np.isfinite(row["selection_entropy"]).all()


def test_illegal_answers_are_returned_and_learned_from() -> None:
    """A random model hardly ever writes a label."""
    group = group_of(answer="free", algorithm="reinforce", episodes_per_update=2)
    arena = Arena(group)
    rows = arena.play(2)
    assert all(-1 in chosen[0] for chosen, _ in arena.history)
    assert all(-1 in moves for _, moves in arena.history)
    assert np.isfinite(rows[1]["loss"]).all() and np.isnan(rows[1]["selection_entropy"]).all()


def test_two_agents_have_no_choice() -> None:
    group = group_of(agents=(0, 1), size=2)
    assert group.select(SelectionView(0, np.zeros((1, 2), dtype=np.int8))).tolist() == [[1, 0]]
    assert np.isnan(group.update()["selection_entropy"]).all()


def test_frozen_agents_may_choose_uniformly() -> None:
    group = group_of(frozen=(0, 1, 2), frozen_selection="uniform")
    chosen = [group.select(SelectionView(t, LATEST[None]))[0] for t in range(300)]
    for place, agent in enumerate(group.agents):
        counts = np.bincount([one[place] for one in chosen], minlength=4)
        assert counts[agent] == 0
        assert np.abs(np.delete(counts, agent) - 100).max() < 5 * (300 * (2 / 9)) ** 0.5


def test_given_labels_make_few_questions_that_are_computed_once() -> None:
    """Each of three agents sees two moves alike, and the other one at one of three places."""
    group = group_of(frozen=(0, 1, 2), selection_labels="given")
    engine = group.members[0][0].policy.backend.engine
    for episode in range(40):
        group.select(SelectionView(episode, LATEST[None]))
    computed = engine.tokens_computed
    for episode in range(40, 60):
        group.select(SelectionView(episode, LATEST[None]))
    assert engine.tokens_computed == computed


def test_without_selection_only_games_are_learned_from() -> None:
    group = group_of(episodes_per_update=4)
    Arena(group, selecting=False).play(3)
    for _, _, member in group.everyone():
        assert member.trainer is not None
        assert {one.kind for one in member.trainer.buffer} == {"choose"}


def test_a_seat_sees_its_own_moves_first() -> None:
    """The selected agent is the second seat; "you" are it all the same."""
    group = group_of(agents=(0, 1), prompt={"name": "structured"})
    for seat in (0, 1):
        stream = group.questions.stream(0, 0, "act", 0, 0)
        question = group.questions.dilemma(group.members[0][0], seat, (1, 0), stream)
        assert "you picked action2, Z picked action1; you got 5, Z got 0" in question.text


@pytest.mark.parametrize("kind", ["select", "choose"])
def test_an_update_makes_better_decisions_likelier(kind: str) -> None:
    """Of both kinds: the log-probabilities change in the direction of the advantages."""
    group = group_of(agents=(0, 1), episodes_per_update=12, rate=3e-4)
    arena = Arena(group, moves={2: 1, 3: 0}, reward=lambda agent, own, other: own + 2.0 * other)
    arena.play(11)
    trainers = [member.trainer for _, _, member in group.everyone() if member.trainer]
    played = [trainer.sequences() for trainer in trainers]
    before = [t.learner.current_terms(s).logprobs for t, s in zip(trainers, played, strict=True)]
    for trainer in trainers:
        trainer.update()
    after = [t.learner.current_terms(s).logprobs for t, s in zip(trainers, played, strict=True)]
    for sequences, old, new in zip(played, before, after, strict=True):
        mine = [i for i, one in enumerate(sequences) if one.decisions[0].kind == kind]
        advantages = torch.tensor([sequences[i].decisions[0].advantage for i in mine])
        assert len(mine) >= 11 and advantages.abs().max() > 0
        assert float((advantages * (new - old)[mine]).sum()) > 0


def test_what_is_rewarded_becomes_likelier() -> None:
    """A bandit in which cooperating pays."""
    group = group_of(agents=(0, 1), episodes_per_update=6, rate=0.003)
    before = cooperation_probabilities(group)[0].mean(axis=(1, 2))
    Arena(group, reward=lambda agent, own, other: float(own == 0)).play(24)
    after = cooperation_probabilities(group)[0].mean(axis=(1, 2))
    assert (after > before + 0.05).all(), (before, after)


@pytest.mark.parametrize(
    "wrong",
    [
        {"episodes_per_update": 0},
        {"min_decisions": 0},
        {"frozen_selection": "best"},
        {"selection_goal": "best"},
        {"selection_labels": "names"},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ComityError):
        LanguageModelSettings(**wrong)
