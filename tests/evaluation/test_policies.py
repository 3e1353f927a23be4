"""Exact probabilities against plain transformers, token by token."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from comity.engines.local.sequence_probabilities import sequence_logprobs
from comity.evaluation.generalization.policies import SPARE_TOKENS, ModelPolicy
from comity.evaluation.generalization.questions import Cell, Question
from tests.worlds import tiny_folder, tiny_models

LABELS = ("action3", "action4")


def questions() -> list[Question]:
    texts = [f"You play a game. They played {a}. Answer {b} or B?" for a, b in product("AB", "AX")]
    return [Question(Cell("g", "CC"), text, LABELS) for text in texts]


def reference(ids: list[int], architecture: str, temperature: float = 1.0) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder(architecture), dtype=torch.float32)
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].float() / temperature, dim=-1)


@pytest.mark.parametrize("temperature", [1.0, 0.4])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_label_probabilities_are_those_of_transformers(
    architecture: str, temperature: float
) -> None:
    models = tiny_models(architecture, adapters=())
    policy = ModelPolicy(models.engine, models.chat, temperature=temperature)
    found = policy.answer_probabilities(questions())
    for question, chances in zip(questions(), found, strict=True):
        context = models.chat.encode_first_prompt(question.text)
        for label, (spelled, ended) in zip(LABELS, chances, strict=True):
            answer = models.chat.encode_answer(label)
            table = reference([*context, *answer], architecture, temperature)[len(context) - 1 :]
            log = sum(float(table[i, token]) for i, token in enumerate(answer))
            end = sum(float(table[len(answer), e].exp()) for e in models.chat.end_ids)
            assert np.log(spelled) == pytest.approx(log, abs=1e-4)
            assert ended == pytest.approx(np.exp(log) * end, rel=1e-3, abs=0)


def test_all_single_tokens_add_up_to_one() -> None:
    """Enumeration: the probabilities of everything that may come next."""
    models = tiny_models("llama", adapters=())
    vocabulary = models.engine.head.vocabulary
    found = sequence_logprobs(
        models.engine, [[5, 6, 7]], [[[token] for token in range(vocabulary)]], None
    )
    assert np.exp([one[0] for one in found[0]]).sum() == pytest.approx(1, abs=1e-5)


def test_chunks_and_adapters_change_nothing_they_should_not() -> None:
    models = tiny_models("llama")
    base = ModelPolicy(models.engine, models.chat)
    tuned = ModelPolicy(models.engine, models.chat, "main")
    whole, apart = (
        tuned.answer_probabilities(questions()),
        [tuned.answer_probabilities([q]) for q in questions()],
    )
    assert whole == pytest.approx(np.concatenate(apart), rel=1e-3, abs=0)
    assert np.abs(np.log(whole / base.answer_probabilities(questions()))).min() > 0.1
    models.engine.max_tokens = 1  # every context in a pass of its own
    assert tuned.answer_probabilities(questions()) == pytest.approx(whole, rel=1e-3, abs=0)


def test_replies_are_reproducible_and_within_the_budget() -> None:
    models = tiny_models("llama")
    policy = ModelPolicy(models.engine, models.chat, "main")
    longest = max(len(models.chat.encode_answer(label)) for label in LABELS)
    assert policy.budget(questions()) == longest + SPARE_TOKENS

    def streams() -> list[np.random.Generator]:
        return [np.random.default_rng(i) for i in range(len(questions()))]

    assert policy.sample_answers(questions(), streams()) == policy.sample_answers(
        questions(), streams()
    )


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_sampled_answers_have_the_exact_probabilities(temperature: float) -> None:
    """Frequencies of the first tokens of many sampled answers, at the policy's temperature."""
    models = tiny_models("llama", adapters=())
    policy = ModelPolicy(models.engine, models.chat, temperature=temperature)
    question = replace(questions()[0], labels=("A", "B"))
    count = 2000
    streams = [np.random.default_rng([7, i]) for i in range(count)]
    replies = policy.sample_answers([question] * count, streams)
    table = sequence_logprobs(
        models.engine, [models.chat.encode_first_prompt(question.text)],
        [[[token] for token in range(models.engine.head.vocabulary)]], None, temperature,
    )[0]  # fmt: skip
    chances = np.exp([one[0] for one in table])
    for token in np.argsort(chances)[-3:]:
        text, chance = models.chat.decode([int(token)]), float(chances[token])
        share = np.mean([reply.startswith(text) for reply in replies])
        others = sum(
            float(c) for t, c in enumerate(chances)
            if t != token and models.chat.decode([t]).startswith(text)
        )  # fmt: skip
        assert share == pytest.approx(chance + others, abs=4 * np.sqrt(0.25 / count))
