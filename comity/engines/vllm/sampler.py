"""Sampled text from a vLLM server, for sessions of the local engine.

The server samples whole answers; each is then replayed token by token through the same
`SamplingState` that the local engine fills, so grammar, forced tokens, masks, limits and closings
have one meaning. What the replay cannot take is dropped and sampled in this process:

- a forced text that the server divided into other tokens (its grammar allows any division, ours
  takes the tokenizer's), from there on;
- an answer that the server ended before it was complete.

Neither changes the distribution: every kept token was sampled from it, given those before it.
"""

from collections.abc import Sequence
from typing import Any

from comity.engines.local.engine import Engine
from comity.engines.local.sampling import UTF8_CONTINUATION_BYTES, SamplingState
from comity.engines.vllm.client import Completion, VllmClient
from comity.engines.vllm.served_model import ServedModel

DISTRIBUTION: dict[str, Any] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "add_special_tokens": False,
    "skip_special_tokens": False,
    "return_token_ids": True,
}
"""Not the model's own defaults, and nothing that changes the distribution; tokens as they are."""
SPARE_TOKENS = 32
"""Tokens of forced text for which the server gets room beyond the sampled ones."""


class VllmSampler:
    """Samples answers on a server."""

    def __init__(self, served: ServedModel) -> None:
        self._served = served

    def sample(self, engine: Engine, answers: Sequence[SamplingState]) -> list[SamplingState]:
        """Fill the answers; returns those that the local engine has to complete.

        Counts in `engine.served` the `answers`, their `tokens`, and those `completed_here`.
        """
        completions = self._served.ask(
            engine,
            [answer.request.conversation.adapter for answer in answers],
            [request_body(answer, self._served.max_tokens) for answer in answers],
            VllmClient.complete,
        )
        left = []
        for answer, completion in zip(answers, completions, strict=True):
            if not replay(answer, completion):
                left.append(answer)
        engine.served["answers"] += len(answers)
        engine.served["tokens"] += sum(len(completion.ids) for completion in completions)
        engine.served["completed_here"] += len(left)
        return left


def request_body(answer: SamplingState, longest: int | None = None) -> dict[str, Any]:
    """The request for an answer from its start, without its model (base or adapter).

    Forced tokens at the start are sampled as well. `longest`: tokens that the server takes, prompt
    and answer together.
    """
    request = answer.request
    body: dict[str, Any] = {
        "prompt": request.conversation.ids[: answer.start],
        "temperature": request.temperature,
        **DISTRIBUTION,
        "seed": int(request.rng.integers(2**62)),
        "logprobs": 0,
        "stop_token_ids": sorted(request.stop),
    }
    if request.matcher is None:
        return {**body, "max_tokens": request.max_tokens, "ignore_eos": True}
    forced = len(request.conversation.ids) - answer.start
    room = request.max_tokens + forced + UTF8_CONTINUATION_BYTES + SPARE_TOKENS
    if longest is not None:
        room = max(1, min(room, longest - answer.start))
    return {**body, "max_tokens": room, "structured_outputs": {"regex": request.matcher.pattern}}


def replay(answer: SamplingState, completion: Completion) -> bool:
    """Take a completion's tokens into an answer from its start; whether it is complete then."""
    ids = answer.request.conversation.ids
    for place, (token, logprob) in enumerate(
        zip(completion.ids, completion.logprobs, strict=True), start=answer.start
    ):
        if answer.stop:
            break
        if place < len(ids):  # forced
            if ids[place] != token:
                break
        elif answer.mask is not None and token not in answer.mask:
            break
        else:
            answer.accept(token, logprob)
    return bool(answer.stop)
