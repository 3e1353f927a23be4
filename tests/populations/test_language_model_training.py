"""Advantages of a language model in a population: their own baselines, normalized per agent."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comity.populations.agents.language_model_training import (
    DILEMMA,
    SELECTION,
    AgentTrainer,
    Decision,
    centered_rewards,
    decision_advantages,
)
from tests.populations.arena import learner_of, models_of

KINDS = st.sampled_from([SELECTION, DILEMMA])
DECISIONS = st.lists(st.tuples(KINDS, st.integers(-6, 10)), max_size=12)


def naive(decisions: list[tuple[str, int]]) -> list[float]:
    """The formula of the module's docstring, one decision after the other."""
    centered = []
    for i, (kind, reward) in enumerate(decisions):
        others = [r for j, (k, r) in enumerate(decisions) if k == kind and j != i]
        centered.append(reward - sum(others) / len(others) if others else 0.0)
    if len(centered) < 2:
        return [0.0] * len(centered)
    mean = sum(centered) / len(centered)
    variance = sum((one - mean) ** 2 for one in centered) / (len(centered) - 1)
    return [one / variance**0.5 if variance > 1e-12 else 0.0 for one in centered]


@given(DECISIONS)
def test_advantages_are_those_of_a_naive_loop(decisions: list[tuple[str, int]]) -> None:
    kinds, rewards = [k for k, _ in decisions], [float(r) for _, r in decisions]
    np.testing.assert_allclose(
        decision_advantages(kinds, rewards), naive(decisions), atol=1e-6, rtol=1e-6
    )


@given(DECISIONS, st.integers(-100, 100))
def test_kinds_have_baselines_of_their_own(decisions: list[tuple[str, int]], shift: int) -> None:
    """More reward for all selections is no reason to do anything else."""
    kinds = [k for k, _ in decisions]
    rewards = [float(r) for _, r in decisions]
    shifted = [r + shift * (k == SELECTION) for k, r in zip(kinds, rewards, strict=True)]
    np.testing.assert_allclose(
        centered_rewards(kinds, shifted), centered_rewards(kinds, rewards), atol=1e-9
    )
    for kind in (SELECTION, DILEMMA):
        mine = [
            a for k, a in zip(kinds, decision_advantages(kinds, rewards), strict=True) if k == kind
        ]
        assert abs(sum(mine)) < 1e-6


@given(DECISIONS, st.floats(0.1, 100))
@example([(SELECTION, 1)] * 3 + [(DILEMMA, 0)], 43.50672678746194)  # 3 x - 2 x is not quite x.
def test_the_scale_of_an_agents_rewards_does_not_matter(
    decisions: list[tuple[str, int]], factor: float
) -> None:
    kinds, rewards = [k for k, _ in decisions], [float(r) for _, r in decisions]
    scaled = [factor * r for r in rewards]
    np.testing.assert_allclose(
        decision_advantages(kinds, scaled), decision_advantages(kinds, rewards), atol=1e-6
    )


def test_a_worked_example() -> None:
    """Selections 4 and 0, games 3, 3 and 0: A = (4, -4, 1.5, 1.5, -3)."""
    kinds = [SELECTION, SELECTION, DILEMMA, DILEMMA, DILEMMA]
    centered = centered_rewards(kinds, [4, 0, 3, 3, 0])
    assert centered.tolist() == [4, -4, 1.5, 1.5, -3]
    deviation = (45.5 / 4) ** 0.5
    assert decision_advantages(kinds, [4, 0, 3, 3, 0]) == pytest.approx(centered / deviation)


def trainer(min_decisions: int) -> AgentTrainer:
    models = models_of(("main",))
    return AgentTrainer(learner_of(models, "main", "reinforce", 0.01), 1.0, min_decisions, (0,))


def decision(reward: float, answer: int = 0) -> Decision:
    answers = ((20,), (21,))
    return Decision(DILEMMA, (5, 6, 7, answers[answer][0]), 3, answers, (-0.7,), reward)


def test_too_few_decisions_are_kept_for_the_next_update() -> None:
    one = trainer(min_decisions=3)
    before = {name: weight.detach().clone() for name, weight in one.learner.parameters.items()}
    one.buffer += [decision(1.0), decision(0.0, 1)]
    assert one.update() == {"decisions": 0}
    assert len(one.buffer) == 2 and one.learner.version == 0
    assert all((before[name] == weight).all() for name, weight in one.learner.parameters.items())
    one.buffer.append(decision(2.0))
    row = one.update()
    assert row["decisions"] == 3 and one.buffer == [] and one.learner.version == 1
    assert any((before[name] != weight).any() for name, weight in one.learner.parameters.items())


def test_sequences_hold_the_sampled_tokens_and_the_right_rewards() -> None:
    one = trainer(min_decisions=1)
    one.buffer += [decision(4.0), decision(0.0, 1)]
    first, second = one.sequences()
    assert first.ids == (5, 6, 7, 20) and second.decisions[0].tokens == (21,)
    assert first.decisions[0].reward == 4.0 and second.decisions[0].reward == -4.0
    assert first.decisions[0].advantage == pytest.approx(2**-0.5)
    assert [s.decisions[0].source for s in (first, second)] == [0, 1]
