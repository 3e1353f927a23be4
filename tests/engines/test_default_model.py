"""The default model through the engine: real weights, real tokenizer, a real game."""

import numpy as np
import pytest
import torch

from comity.engines.chat import ChatFormat
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.learning.training_batch import compute_terms
from comity.players.language_model.player import LanguageModelBackend
from comity.prompts import PROMPTS
from comity.prompts.answers import ANSWERS
from comity.registry import build
from comity.rollout.play import Rollout
from comity.train import training_sequences
from tests.worlds import dilemma, learner, play_matches

BFLOAT16_TOLERANCE = 0.1
"""Largest difference of a decision's log-probability in bfloat16, engine against learner.

The two compute the same tokens in batches of other shapes, and bfloat16 keeps 8 bits.
"""


def played(dtype: str) -> tuple[LanguageModelBackend, Rollout]:
    models = LanguageModelBackend(
        Engine(load_model("smollm2-135m", dtype, "cpu")),
        ChatFormat.from_tokenizer(load_tokenizer("smollm2-135m")),
        build("prompt", {"name": "conversation", "labels": ["A", "B"]}, PROMPTS),
        build("answer", "constrained", ANSWERS),
    )
    models.engine.adapters.add("main", rank=16)
    policy = learner(models)
    return models, play_matches(dilemma(3), (policy, policy), 2)


@pytest.mark.usefixtures("smollm2")
def test_float32_probabilities_are_those_of_plain_transformers() -> None:
    models, rollout = played("float32")
    # A new adapter changes nothing, so the plain base model is the reference.
    plain = load_model("smollm2-135m", "float32", "cpu")
    for d in rollout.decisions[-4:]:
        ids = rollout.conversations[d.conversation].ids[: d.start]
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor([ids])).logits[0, -1].double()
        pair = [models.chat.encode_labels((label,))[0][-1] for label in d.legal]
        expected = torch.softmax(logits[pair], -1).numpy()
        np.testing.assert_allclose(d.probabilities, expected, atol=1e-4)
    check_learner(models, rollout, 1e-4)


@pytest.mark.usefixtures("smollm2")
def test_bfloat16_agrees_within_the_stated_tolerance() -> None:
    models, rollout = played("bfloat16")
    check_learner(models, rollout, BFLOAT16_TOLERANCE)


def check_learner(models: LanguageModelBackend, rollout: Rollout, tolerance: float) -> None:
    found = training_sequences(rollout, "main", 1.0)
    logprobs = compute_terms(models.engine, found, "main", gradients=False).logprobs
    behavior = [b for one in found for d in one.decisions for b in d.behavior]
    np.testing.assert_allclose(logprobs.numpy(), behavior, atol=tolerance)
