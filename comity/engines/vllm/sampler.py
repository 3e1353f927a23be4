"""Sampled text from a vLLM server, for sessions of the local engine.

The server samples whole answers; each is then replayed token by token through the same
`SamplingState` that the local engine fills, so grammar, forced tokens, masks, limits and closings
have one meaning. What the replay cannot take is dropped and sampled in this process:

- a forced text that the server divided into other tokens (its grammar allows any division, ours
  takes the tokenizer's), from there on;
- an answer that the server ended before it was complete.

Neither changes the distribution: every kept token was sampled from it, given those before it.

All that a batch of answers needs is in its requests, and the conversations are in this process.
So when the server ends, the same requests are sent again to a new one, with the same seeds.
"""

from collections.abc import Callable, Sequence
from typing import Any

from comity.engines.local.engine import Engine
from comity.engines.local.sampling import UTF8_CONTINUATION_BYTES, SamplingState
from comity.engines.vllm.adapters import ServedAdapters
from comity.engines.vllm.client import Completion, ServerLostError, VllmClient
from comity.errors import WorkError

Reconnect = Callable[[ServerLostError], tuple[VllmClient, str]]
"""A new connection after the old one was lost, and the name of the served base model."""

RESTARTS = 3
"""New connections for one batch of answers, at most."""
SPARE_TOKENS = 32
"""Tokens of forced text for which the server gets room beyond the sampled ones."""


class VllmSampler:
    """Samples answers on a server (`comity.engines.local.session.TextSampler`)."""

    def __init__(
        self, client: VllmClient, adapters: ServedAdapters, reconnect: Reconnect | None = None
    ) -> None:
        """`reconnect`: None where a lost server ends the work."""
        self._client = client
        self._adapters = adapters
        self._reconnect = reconnect
        self.tokens = 0
        """Tokens sampled on the server so far."""
        self.answers = 0
        """Answers begun on the server so far."""
        self.completed_here = 0
        """Those of them that had to be completed by the local engine."""

    def sample(self, engine: Engine, answers: Sequence[SamplingState]) -> list[SamplingState]:
        """Fill the answers; returns those that the local engine has to complete."""
        bodies = [request_body(answer) for answer in answers]
        left = []
        for answer, completion in zip(
            answers, self._complete(engine, answers, bodies), strict=True
        ):
            self.tokens += len(completion.ids)
            self.answers += 1
            if not replay(answer, completion):
                self.completed_here += 1
                left.append(answer)
        return left

    def _complete(
        self, engine: Engine, answers: Sequence[SamplingState], bodies: Sequence[dict[str, Any]]
    ) -> list[Completion]:
        """The completions, from a new server where the old one is lost."""
        adapters = [answer.request.conversation.adapter for answer in answers]
        for restarts in range(RESTARTS + 1):
            try:
                names = self._adapters.names(engine, set(adapters))
                return self._client.complete(
                    [
                        {**body, "model": names[adapter]}
                        for body, adapter in zip(bodies, adapters, strict=True)
                    ]
                )
            except ServerLostError as error:
                if self._reconnect is None:
                    raise
                if restarts == RESTARTS:
                    raise WorkError(f"{error} (after {RESTARTS} new starts)") from None
                self._client.close()
                self._client, base = self._reconnect(error)
                self._adapters.move(self._client, base)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Unload our adapters from the server and close the connection."""
        try:
            self._adapters.close()
        finally:
            self._client.close()


def request_body(answer: SamplingState) -> dict[str, Any]:
    """The request for an answer from its start, without its model (base or adapter).

    Forced tokens at the start are sampled as well.
    """
    request = answer.request
    body: dict[str, Any] = {
        "prompt": request.conversation.ids[: answer.start],
        "temperature": request.temperature,
        # Not the model's own defaults, and nothing that changes the distribution.
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "seed": int(request.rng.integers(2**62)),
        "logprobs": 0,
        "return_token_ids": True,
        "add_special_tokens": False,
        "skip_special_tokens": False,
        "stop_token_ids": sorted(request.stop),
    }
    if request.matcher is None:
        return {**body, "max_tokens": request.max_tokens, "ignore_eos": True}
    forced = len(request.conversation.ids) - answer.start
    room = request.max_tokens + forced + UTF8_CONTINUATION_BYTES + SPARE_TOKENS
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
