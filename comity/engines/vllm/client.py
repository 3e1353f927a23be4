"""The client of a vLLM server: token ids in, token ids and their log-probabilities out.

It uses vLLM's completions endpoint, whose additions to OpenAI's are needed: prompts of token ids,
token ids in the answer, grammars, and adapters that are loaded while the server runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from comity.engines.event_loop import EventLoop, wait
from comity.errors import ComityError, WorkError, one_line, printable

DEADLINE = 1800.0
"""Seconds for an answer; a batch of long ones waits in the server's queue."""
UNLOADING = 60.0
"""Seconds for unloading an adapter."""
SCORED_TOKENS = "logprob_token_ids"
"""The field with the tokens whose log-probabilities are asked for."""
NO_LOGPROB = -9999.0
"""What the server writes for minus infinity."""


class ServerLostError(WorkError):
    """The server has ended, does not answer, or has lost an adapter, as after a new start."""


class ServedBase(NamedTuple):
    """The base model of a server."""

    name: str
    max_tokens: int | None = None
    """Tokens of the longest conversation, answers included; None: the server does not say."""


@dataclass(frozen=True)
class Completion:
    """Sampled tokens with their log-probabilities in the distribution sampled from."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


class VllmClient:
    """Asks one server."""

    def __init__(self, url: str) -> None:
        """`url`: of the server, with or without `/v1`. Raises `ComityError` without `openai`."""
        try:
            import openai
        except ImportError:
            raise ComityError(
                "engine=vllm needs the package openai: pip install 'openai>=2.25'"
            ) from None
        self.url = url.rstrip("/").removesuffix("/v1")
        settings: dict[str, Any] = {"base_url": f"{self.url}/v1", "api_key": "none"}
        self._openai = openai.AsyncOpenAI(**settings, max_retries=2, timeout=DEADLINE)
        self._blocking = openai.OpenAI(**settings, max_retries=2, timeout=UNLOADING)
        self._loop = EventLoop()

    def close(self) -> None:
        """Close all connections; once more does nothing."""
        if not self._loop.is_closed:
            self._blocking.close()
            self._loop.run(self._openai.close())
            self._loop.close()

    def model(self) -> ServedBase:
        """The served base model; `ComityError` where no vLLM server is."""
        unlike = ComityError(f"the server at {self.url} is not vLLM; engine.url must name one")
        try:
            found = self._loop.run(self._get("/models"))
        except ServerLostError:
            raise
        except WorkError as error:
            raise unlike from error
        data = found.get("data", ()) if isinstance(found, dict) else ()
        served = [one for one in data if not one.get("parent")]
        if not served or served[0].get("owned_by") != "vllm":
            raise unlike
        return ServedBase(str(served[0]["id"]), served[0].get("max_model_len"))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, by the server's tokenizer."""
        found = self._loop.run(self._post(f"{self.url}/detokenize", {"tokens": list(ids)}))
        return str(found["prompt"])

    def complete(self, bodies: Sequence[Mapping[str, Any]]) -> list[Completion]:
        """The completions of all requests, sent at once; the server batches them."""
        return wait(self._loop.start([self._complete(one) for one in bodies]))

    def next_logprobs(self, bodies: Sequence[Mapping[str, Any]]) -> list[dict[int, float]]:
        """log-probability of each request's `logprob_token_ids` after its prompt."""
        return wait(self._loop.start([self._next_logprobs(one) for one in bodies]))

    def prompt_logprobs(self, model: str, ids: Sequence[int]) -> list[float]:
        """log-probability of every id after the first, given those before it."""
        body = {"model": model, "prompt": list(ids), "max_tokens": 1, "prompt_logprobs": 0}
        found = self._loop.run(self._post("/completions", body))
        rows = found["choices"][0]["prompt_logprobs"]
        return [
            float(row[str(token)]["logprob"]) for row, token in zip(rows[1:], ids[1:], strict=True)
        ]

    def load_adapter(self, name: str, folder: str) -> None:
        """Load an adapter from a folder that the server can read."""
        body = {"lora_name": name, "lora_path": folder}
        try:
            self._loop.run(self._post("/load_lora_adapter", body))
        except ServerLostError:
            raise
        except WorkError as error:
            raise WorkError(
                f"{error}; it needs --enable-lora, a --max-lora-rank of the adapter's rank, "
                f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and access to {folder}"
            ) from None

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter.

        Also while the interpreter ends: an event loop cannot look up the server's name then.
        """
        import openai

        try:
            body = {"lora_name": name}
            self._blocking.post("/unload_lora_adapter", cast_to=object, body=body)
        except openai.APIError as error:
            refused = isinstance(error, openai.APIStatusError) and error.status_code < 500
            kind = WorkError if refused else ServerLostError
            raise kind(
                f"the server at {self.url} does not unload an adapter: {one_line(error)[:300]}"
            ) from None

    async def _complete(self, body: Mapping[str, Any]) -> Completion:
        found = await self._post("/completions", dict(body))
        try:
            choice = found["choices"][0]
            ids = tuple(int(token) for token in choice["token_ids"])
            logprobs = tuple(float(value) for value in choice["logprobs"]["token_logprobs"])
        except (KeyError, IndexError, TypeError, ValueError):
            raise WorkError(
                f"the server at {self.url} answers without token ids and log-probabilities; "
                "Comity needs vLLM 0.11 or newer"
            ) from None
        if len(ids) != len(logprobs):
            raise WorkError(
                f"the server at {self.url} gave {len(ids)} tokens and {len(logprobs)} "
                "log-probabilities"
            )
        return Completion(ids, logprobs)

    async def _next_logprobs(self, body: Mapping[str, Any]) -> dict[int, float]:
        found = await self._post("/completions", dict(body))
        try:
            given = found["choices"][0]["logprobs"]["top_logprobs"][0]
            logprobs = {token: float(given[f"token_id:{token}"]) for token in body[SCORED_TOKENS]}
        except (KeyError, IndexError, TypeError, ValueError):
            raise WorkError(
                f"the server at {self.url} answers without the log-probabilities of the tokens "
                f"that it was asked for ({SCORED_TOKENS}): it needs a newer vLLM (0.32 has them); "
                "set engine.scored=local"
            ) from None
        if min(logprobs.values()) <= NO_LOGPROB:
            raise WorkError(
                f"the server at {self.url} gives log-probabilities that are not finite; the "
                "weights of the model or of its adapter have diverged or are damaged"
            )
        return logprobs

    async def _is_well(self) -> bool:
        """Whether the server still works after it refused a request; if so, it would again."""
        import openai

        try:
            asked = self._openai.with_options(max_retries=0)
            await asked.get(f"{self.url}/health", cast_to=object)
        except openai.APIError:
            return False
        return True

    async def _get(self, path: str) -> Any:
        return await self._request("get", path, None)

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._request("post", path, dict(body))

    async def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        import openai

        try:
            if method == "get":
                return await self._openai.get(path, cast_to=object)
            return await self._openai.post(path, cast_to=object, body=body)
        except openai.APIStatusError as error:
            text = " ".join(printable(error.message).split())[:300]
            lost = error.status_code == 404 and path == "/completions"
            if error.status_code >= 500:
                lost = not await self._is_well()
            kind = ServerLostError if lost else WorkError
            raise kind(f"the server at {self.url} refuses {path}: {text}") from None
        except openai.APITimeoutError:
            raise ServerLostError(
                f"the server at {self.url} does not answer in {DEADLINE:.0f} s"
            ) from None
        except openai.APIConnectionError as error:
            raise ServerLostError(
                f"the server at {self.url} cannot be reached ({error.__cause__ or error}); start "
                "it, or let engine.python start one"
            ) from None
