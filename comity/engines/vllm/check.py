"""A server is used only after a check: it must compute what the local engine computes."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from comity.engines.local.engine import Engine
from comity.engines.local.scoring import ScoreRequest
from comity.engines.vllm.adapters import ServedAdapters
from comity.engines.vllm.client import ServerLostError, VllmClient
from comity.engines.vllm.sampler import DISTRIBUTION
from comity.engines.vllm.scorer import VllmScorer
from comity.errors import ComityError, WorkError

LENGTH = 48
"""Tokens of the compared sequence."""
PROBE, PROBE_SIZE = "check", 0.02
"""The adapter of the check, and the size of its weights B."""
PROMPTS = 6
"""Prompts that are cut from it."""
TEMPERATURE = 0.5
"""Of the compared answers."""
FLOAT32_MOST, LOW_PRECISION_MEAN = 1e-2, 0.15
"""Most difference of a log-probability in float32; mean absolute difference in lower precision.

Both sides multiply in other orders. A model of other weights differs by several nats.
"""


def check_server(client: VllmClient, model: str, engine: Engine) -> float:
    """Mean absolute difference of log-probabilities of random tokens, server against engine.

    Raises `ComityError` where the server has other weights, or another vocabulary.
    """
    ids = random_ids(engine, 0)
    wanted = local_logprobs(engine, None, ids)
    try:
        difference = np.abs(np.array(client.prompt_logprobs(model, ids)) - wanted)
        unlike = (
            f"log-probabilities of the same tokens differ by {difference.mean():.3g} on average"
        )
    except ServerLostError:
        raise
    except WorkError as error:  # Tokens that its vocabulary does not have.
        difference, unlike = np.full(LENGTH, np.inf), str(error)
    if not is_near(engine, difference):
        raise ComityError(
            f"the server at {client.url} serves another model ({model}), or in another precision: "
            f"{unlike}; serve the model of the experiment with the dtype of model.dtype"
        )
    return float(difference.mean())


def check_tokenizer(client: VllmClient, tokenizer: Any, engine: Engine) -> None:
    """`ComityError` unless the server has the tokenizer: grammars are its own over its texts.

    Compares the text of the whole vocabulary. White space and characters that are no text do not
    count, because releases of transformers differ in them.
    """
    ids = list(range(min(len(tokenizer), engine.head.vocabulary)))
    found, wanted = (_letters(text) for text in (client.decode(ids), tokenizer.decode(ids)))
    if found != wanted:
        raise ComityError(
            f"the server at {client.url} has another tokenizer than the model of the experiment; "
            "serve the model with its own tokenizer"
        )


def _letters(text: str) -> str:
    return "".join(text.replace("\N{REPLACEMENT CHARACTER}", "").split())


def check_adapters(
    adapters: ServedAdapters, client: VllmClient, engine: Engine, shape: Mapping[str, Any]
) -> None:
    """`ComityError` where the server does not take an adapter, or computes it otherwise.

    `shape`: as `Adapters.add` takes it. A random adapter is published, and unloaded again.
    """
    engine.adapters.add(PROBE, **shape)
    try:
        generator = torch.Generator().manual_seed(0)
        for name, weights in engine.adapters.parameters(PROBE).items():
            if name.endswith("lora_B"):
                drawn = PROBE_SIZE * torch.randn(weights.shape, generator=generator)
                weights.data.copy_(drawn)
        ids = random_ids(engine, 3)
        name = adapters.names(engine, [PROBE])[PROBE]
        found = np.array(client.prompt_logprobs(name, ids))
        difference = np.abs(found - local_logprobs(engine, PROBE, ids))
    finally:
        engine.adapters.remove(PROBE)
        with suppress(WorkError):
            adapters.close()
    if not is_near(engine, difference):
        raise ComityError(
            f"the server at {client.url} computes an adapter otherwise than this process: "
            f"log-probabilities differ by {difference.mean():.3g} on average"
        )


def check_temperature(client: VllmClient, model: str, engine: Engine) -> None:
    """`ComityError` where the server's log-probabilities are those before the temperature."""
    ids = random_ids(engine, 1)
    prompts = [ids[:end] for end in range(LENGTH // PROMPTS, LENGTH + 1, LENGTH // PROMPTS)]
    asked = {**DISTRIBUTION, "max_tokens": 1, "temperature": TEMPERATURE, "logprobs": 0}
    given = client.complete(
        [
            {**asked, "model": model, "prompt": prompt, "seed": seed, "ignore_eos": True}
            for seed, prompt in enumerate(prompts)
        ]
    )
    found = np.array([one.logprobs[0] for one in given])
    states = engine.hidden_states(prompts, None, gradients=False)
    hidden = states.hidden[[rows[-1] for rows in states.rows]]
    tokens = torch.tensor([one.ids[0] for one in given], device=hidden.device)
    wanted, _ = engine.head.token_logprobs(hidden, tokens, TEMPERATURE)
    if not is_near(engine, np.abs(found - wanted.double().cpu().numpy()) * TEMPERATURE):
        raise ComityError(
            f"the server at {client.url} gives log-probabilities before the temperature; start it "
            "with --logprobs-mode processed_logprobs"
        )


def check_scoring(scorer: VllmScorer, engine: Engine) -> None:
    """`ComityError` unless the server gives answers the probabilities that they have here.

    Of one token and of several, at a temperature.
    """
    ids = random_ids(engine, 2)
    session = engine.session()
    requests = []
    for end in range(LENGTH // PROMPTS, LENGTH - 3, LENGTH // PROMPTS):
        one, two, three, four = ids[end : end + 4]
        conversation = session.conversation(None)
        conversation.append(ids[:end])
        for answers in (((one,), (two,), (three,)), ((one, two), (one, three), (four,))):
            requests.append(ScoreRequest(conversation, answers, TEMPERATURE))
    found = np.concatenate(scorer.score(engine, requests))
    difference = np.abs(found - np.concatenate(session.score(requests)))
    if not is_near(engine, difference * TEMPERATURE):
        raise ComityError(
            "the vLLM server gives scored answers other probabilities than this process "
            f"(log-probabilities differ by {difference.mean():.3g} on average); set "
            "engine.scored=local"
        )


def random_ids(engine: Engine, seed: int) -> list[int]:
    """`LENGTH` random tokens."""
    rng = np.random.default_rng(seed)
    return [int(token) for token in rng.integers(0, engine.head.vocabulary, LENGTH)]


def is_near(engine: Engine, difference: np.ndarray) -> bool:
    """Whether absolute differences of log-probabilities are those of rounding."""
    if engine.dtype == torch.float32:
        return bool(difference.max() < FLOAT32_MOST)
    return bool(difference.mean() < LOW_PRECISION_MEAN)


@torch.no_grad()
def local_logprobs(engine: Engine, adapter: str | None, ids: list[int]) -> np.ndarray:
    """log-probability of every id after the first under the local engine, `[len(ids) - 1]`."""
    states = engine.hidden_states([ids], adapter, gradients=False)
    hidden = states.hidden[states.rows[0][:-1]]
    table = torch.log_softmax(engine.head.logits(hidden), dim=-1)
    chosen = torch.tensor(ids[1:], device=table.device)[:, None]
    return np.asarray(table.gather(1, chosen).squeeze(1).double().cpu().numpy())
