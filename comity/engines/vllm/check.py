"""A server is used only after a check: it must compute what the local engine computes."""

import numpy as np
import torch

from comity.engines.local.engine import Engine
from comity.engines.vllm.client import VllmClient
from comity.errors import ComityError

LENGTH = 48
"""Tokens of the compared sequence."""
FLOAT32_MOST, LOW_PRECISION_MEAN = 1e-2, 0.15
"""Most difference of a log-probability in float32; mean absolute difference in lower precision.

Both sides multiply in other orders. A model of other weights differs by several nats.
"""


def check_server(client: VllmClient, model: str, engine: Engine) -> float:
    """Mean absolute difference of log-probabilities of random tokens, server against engine.

    Raises `ComityError` where the server has other weights, or another vocabulary.
    """
    rng = np.random.default_rng(0)
    ids = [int(token) for token in rng.integers(0, engine.head.vocabulary, LENGTH)]
    found = np.array(client.prompt_logprobs(model, ids))
    wanted = local_logprobs(engine, None, ids)
    difference = np.abs(found - wanted)
    exact = engine.dtype == torch.float32
    if not (difference.max() < FLOAT32_MOST if exact else difference.mean() < LOW_PRECISION_MEAN):
        raise ComityError(
            f"the server at {client.url} serves another model ({model}), or in another precision: "
            f"log-probabilities of the same tokens differ by {difference.mean():.3g} on average; "
            "serve the model of the experiment with the dtype of model.dtype"
        )
    return float(difference.mean())


@torch.no_grad()
def local_logprobs(engine: Engine, adapter: str | None, ids: list[int]) -> np.ndarray:
    """log-probability of every id after the first under the local engine, `[len(ids) - 1]`."""
    states = engine.hidden_states([ids], adapter, gradients=False)
    hidden = states.hidden[states.rows[0][:-1]]
    table = torch.log_softmax(engine.head.logits(hidden), dim=-1)
    chosen = torch.tensor(ids[1:], device=table.device)[:, None]
    return np.asarray(table.gather(1, chosen).squeeze(1).double().cpu().numpy())
