"""What the base model makes of answers: as one pass would, and the same whatever came before."""

from dataclasses import replace

import pytest
import torch

from comity.learning import reference_policy as reference
from comity.learning.reference_policy import ReferencePolicy
from comity.learning.training_batch import TrainingSequence, compute_terms
from comity.players.language_model.player import LanguageModelBackend
from comity.train import training_sequences
from tests.worlds import dilemma, learner, play_matches, tiny_models


def world(
    answer: str, architecture: str = "llama"
) -> tuple[LanguageModelBackend, list[TrainingSequence]]:
    prompt = {"name": "memory_one", "labels": ["action1", "action22"]}
    models = tiny_models(architecture, prompt=prompt, answer={"name": answer})
    policy = learner(models)
    for_all = training_sequences(play_matches(dilemma(3), (policy, policy), 4), "main", 1.0)
    assert all(len(sequence.decisions) == 1 for sequence in for_all)
    return models, for_all


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("answer", ["constrained", "free"])
def test_it_is_what_one_pass_over_everything_gives(answer: str, architecture: str) -> None:
    models, found = world(answer, architecture)
    plain = compute_terms(models.engine, found, None, gradients=False).logprobs
    remembered = ReferencePolicy(models.engine).logprobs(found)
    torch.testing.assert_close(remembered, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("answer", ["constrained", "free"])
def test_to_the_last_bit_it_does_not_depend_on_what_came_before(answer: str) -> None:
    """As after a resume, which begins with nothing remembered."""
    models, found = world(answer)
    forward = [ReferencePolicy(models.engine).logprobs([one]) for one in found]
    again, _ = world(answer)
    backward = [ReferencePolicy(again.engine).logprobs([one]) for one in reversed(found)]
    for one, other in zip(forward, reversed(backward), strict=True):
        assert torch.equal(one, other)


def test_answers_of_one_update_are_one_pass_that_depends_on_nothing_else() -> None:
    """To the last bit, whatever was asked before, in any order, and with the caches full."""
    models, found = world("free")
    forward = ReferencePolicy(models.engine)
    alone = torch.cat([forward.logprobs([one]) for one in found])
    computed = models.engine.tokens_computed
    together = forward.logprobs(found)
    distinct = {(one.ids[: one.decisions[0].start], one.decisions[0].tokens) for one in found}
    assert models.engine.tokens_computed - computed == sum(len(t) - 1 for _, t in distinct)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    again, same = world("free")
    backward = ReferencePolicy(again.engine).logprobs(same[::-1])
    terms = [len(one.decisions[0].tokens) for one in same[::-1]]
    assert torch.equal(torch.cat(backward.split(terms)[::-1]), together)


def test_a_full_cache_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    models, found = world("free")
    expected = [ReferencePolicy(models.engine).logprobs([one]) for one in found]
    monkeypatch.setattr(reference, "MAX_CACHED_TOKENS", 1)
    monkeypatch.setattr(reference, "MAX_STORED_IDS", 1)
    again, _ = world("free")
    small = ReferencePolicy(again.engine)
    for one, logprobs in zip(found, expected, strict=True):
        assert torch.equal(small.logprobs([one]), logprobs)
        assert len(small._cache.logprobs) <= 1 and len(small._cache.ends) == 1


def test_temperatures_are_kept_apart() -> None:
    models, found = world("free")
    mixed = [
        replace(one, decisions=(replace(one.decisions[0], temperature=1.0 + 0.3 * (i % 2)),))
        for i, one in enumerate(found)
    ]
    plain = compute_terms(models.engine, mixed, None, gradients=False).logprobs
    torch.testing.assert_close(
        ReferencePolicy(models.engine).logprobs(mixed), plain, atol=1e-4, rtol=0
    )


def test_a_question_is_read_once_and_then_only_new_answers() -> None:
    models, found = world("free")
    one = found[0]
    (decision,) = one.decisions
    reference = ReferencePolicy(models.engine)
    reference.logprobs([one])
    computed = models.engine.tokens_computed
    reference.logprobs([one])
    assert models.engine.tokens_computed == computed
    other = replace(decision, tokens=tuple((t + 1) % 300 for t in decision.tokens))
    ids = (*one.ids[: decision.start], *other.tokens)
    reference.logprobs([TrainingSequence(ids, (other,))])
    assert models.engine.tokens_computed - computed == len(decision.tokens) - 1
