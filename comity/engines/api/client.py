"""The client of one endpoint: a chat request becomes an answer, a failure, or an error.

Requests go through the official `openai` client with its own retries turned off. They begin in
the order in which they were made, as `comity.engines.api.pacing` permits; failed ones are repeated
after a growing wait. Every answer is in the answer log before anybody sees it.
"""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from comity.engines.api.answer_log import AnswerLog, answer_key
from comity.engines.api.faults import (
    FatalApiError,
    Fault,
    Withheld,
    judge_status,
    status_in_body,
)
from comity.engines.api.outcomes import Completion, FaultyAnswerError, read_completion
from comity.engines.api.pacing import Pacing
from comity.engines.api.settings import Endpoint, redact
from comity.engines.api.usage import BudgetReachedError, Totals, Usage
from comity.engines.event_loop import EventLoop
from comity.errors import ComityError, printable

LARGEST_ANSWER = 4_000_000
"""Bytes of a response; a larger one is a fault, and is not read to its end."""
LONGEST_BACKOFF = 60.0
"""Seconds."""
FIRST_CONNECTIONS = 3
"""Tries to reach a server that has never answered."""
SPACING = 0.0015
"""Seconds between two requests: about what one costs of this process's time."""
CHARACTERS_PER_TOKEN = 4
"""For estimates of a request's tokens before the server has counted them."""

Body = dict[str, Any]
"""A chat request: model, messages and parameters."""
Place = Sequence[int | str]
"""Whose answer it is: identity of the match, seat, round, step, attempt."""


class ApiFailureError(Exception):
    """All tries failed; there is no answer."""


class ApiClient:
    """Asks one endpoint; its coroutines run on `loop`."""

    def __init__(self, endpoint: Endpoint, log: AnswerLog | None = None) -> None:
        try:
            import openai  # noqa: F401 (not in the event loop, which it would hold up)
        except ImportError:
            text = "API players need the package openai: pip install 'openai>=2.25'"
            raise ComityError(text) from None
        self.endpoint = endpoint
        self.log = AnswerLog() if log is None else log
        self.loop = EventLoop()
        self.pacing = Pacing(
            endpoint.concurrency,
            endpoint.requests_per_minute,
            endpoint.tokens_per_minute,
            SPACING,
        )
        self.used = Totals()
        """What was asked for in this process, from the log or not."""
        self.ignores_schema = False
        """An answer was not of the schema that was sent with its request."""
        self._jitter = random.Random()  # Not the global one, whose state training keeps.
        self._key = endpoint.key()
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._reached = False
        """The server has responded, whatever it said."""
        self._output = 0.0
        """Mean tokens of an answer so far."""
        self._openai: Any = None

    @property
    def logged(self) -> Totals:
        """Sums over this endpoint's answers in the log."""
        return self.log.totals(self.endpoint.name)

    def body(self, messages: Sequence[Mapping[str, str]], more: Mapping[str, Any]) -> Body:
        """The request for an answer to a chat; `more`: parameters beside the configured ones."""
        endpoint = self.endpoint
        return {
            "model": endpoint.model,
            "messages": [dict(one) for one in messages],
            **endpoint.parameters,
            **more,
        }

    def check_budget(self) -> None:
        """Raises `BudgetReachedError` if the budget is spent."""
        budget, cost, known = self.endpoint.budget, self.log.cost, self.logged
        if budget is None:
            return
        if known.answers and not known.input + known.output:
            raise BudgetReachedError(
                f"{self.endpoint.base_url} counts no tokens, so that api.budget cannot be kept; "
                "all answers are kept: set api.budget=null in the run's config.yaml and resume"
            )
        if cost >= budget:
            raise BudgetReachedError(
                f"the budget of ${budget:g} is reached (${cost:.4g} spent); everything "
                "answered is kept: raise api.budget in the run's config.yaml "
                "and resume, or start again with a larger one"
            )

    def check_server(self) -> None:
        """Raises `ComityError` if no server is there or it refuses the key.

        Asks for the list of models, which costs nothing; servers without one pass.
        """
        self.loop.run(self._check_server())

    async def _check_server(self) -> None:
        import openai

        for number in range(FIRST_CONNECTIONS):
            try:
                async with asyncio.timeout(min(self.endpoint.deadline, 20.0)):
                    await self._client().models.list()
            except openai.APIStatusError as error:
                if error.status_code in (401, 403):
                    self._meaning(error.status_code, error.response.headers, error.body)
            except (openai.APITimeoutError, TimeoutError):
                pass  # Slow is not absent.
            except openai.APIConnectionError as error:
                if number + 1 < FIRST_CONNECTIONS:
                    await asyncio.sleep(self.endpoint.backoff)
                    continue
                raise FatalApiError(self._not_there(self._cause(error))) from None
            except Exception:
                pass  # No list, or one in another form.
            return

    async def ask(self, body: Body, place: Place, beside: Mapping[str, Any]) -> Completion:
        """The answer to a request, from the log if it is there.

        `beside`: written into the log with it. Raises `ApiFailureError` after all tries, and
        `FatalApiError` where trying again would not help.
        """
        endpoint = self.endpoint
        key = answer_key(body, endpoint.base_url, place)
        found, began = self.log.find(key), time.time()
        answer = found or await self._ask(body)
        cost = None if answer.usage is None else answer.usage.cost(endpoint.prices)
        if found is None:
            told = {
                **beside,
                "endpoint": endpoint.name,
                "cost": cost,
                "time": round(began, 3),
                "seconds": round(time.time() - began, 3),
            }
            self.log.append(key, answer, told)
        self.used.add(answer.status, answer.usage, cost)
        return answer

    async def _ask(self, body: Body) -> Completion:
        """Ask the server until there is an answer."""
        endpoint = self.endpoint
        estimate = len(json.dumps(body["messages"])) / CHARACTERS_PER_TOKEN
        fault = Fault("")
        for number in range(endpoint.tries):
            if number:
                self.used.retries[fault.kind] += 1
                backoff = min(LONGEST_BACKOFF, endpoint.backoff * 2 ** (number - 1))
                await asyncio.sleep(
                    max(fault.retry_after or 0.0, backoff * self._jitter.uniform(0.5, 1))
                )
            expected = estimate + self._output
            await self._turn(expected)
            began = time.monotonic()
            outcome: Completion | Fault | None = None
            try:
                self.used.requests += 1
                outcome = await self._send(body, number + 1 == endpoint.tries)
            finally:
                self._ended(began, expected, outcome)
            if isinstance(outcome, Completion):
                return outcome
            fault = outcome
            if fault.unconnected and not self._reached and number + 1 >= FIRST_CONNECTIONS:
                raise FatalApiError(self._not_there(fault.detail))
        if not self.logged.answers:
            raise FatalApiError(
                f"{endpoint.base_url} gave no usable answer in {endpoint.tries} tries, the last: "
                f"{fault}; is it an OpenAI-compatible chat API (api.base_url)?"
            )
        self.used.failed += 1
        raise ApiFailureError(f"no answer in {endpoint.tries} tries, the last: {fault}")

    async def _send(self, body: Body, last_try: bool) -> Completion | Fault:
        """One request."""
        import openai

        try:
            async with asyncio.timeout(self.endpoint.deadline):
                payload = await self._receive(body)
            failed = status_in_body(payload)
            if failed is not None:  # In a response that says that all is well.
                return self._meaning(failed, {}, payload)
            answer = read_completion(payload, last_try)
        except FaultyAnswerError as error:
            return Fault(error.kind, printable(redact(str(error), self._key)))
        except (TimeoutError, openai.APITimeoutError):
            return Fault("time-out", f"no answer in {self.endpoint.deadline:g} s")
        except openai.APIStatusError as error:
            return self._meaning(error.status_code, error.response.headers, error.body)
        except openai.APIConnectionError as error:
            return Fault("connection error", self._cause(error), unconnected=True)
        except openai.OpenAIError as error:
            return Fault("not a chat completion", printable(redact(str(error), self._key)))
        return Completion(
            redact(answer.text, self._key),
            answer.status,
            redact(answer.finish_reason, self._key),
            answer.usage,
            redact(answer.model, self._key),
        )

    async def _receive(self, body: Body) -> Any:
        """The parsed body of the response to one request."""
        completions = self._client().chat.completions.with_streaming_response
        # The whole request is in `extra_body`, which is sent as it is. The client would rewrite the
        # messages of a long chat one by one, which takes longer than all the rest.
        async with completions.create(
            model=body["model"], messages=[], extra_body=body
        ) as response:
            self._reached = True
            if response.http_response.history:
                raise FaultyAnswerError("redirect", f"to {response.http_response.url}")
            kind = response.headers.get("content-type", "none")
            if "json" not in kind.lower():
                raise FaultyAnswerError("content type", kind)
            received = bytearray()
            try:
                async for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > LARGEST_ANSWER:
                        break
            except Exception as error:  # Of the HTTP library beneath, whichever that is.
                raise FaultyAnswerError("half an answer", type(error).__name__) from error
        if len(received) > LARGEST_ANSWER:
            raise FaultyAnswerError("too large", f"more than {LARGEST_ANSWER:,} bytes")
        try:
            return json.loads(received)
        except (ValueError, RecursionError):
            raise FaultyAnswerError("not JSON") from None

    def _meaning(self, status: int, headers: Mapping[str, str], body: object) -> Fault | Completion:
        """What a response with an error status means, without the key in any message."""
        self._reached = True
        try:
            body = json.loads(redact(json.dumps(body), self._key))
        except (TypeError, ValueError):
            body = redact(str(body), self._key)
        found = judge_status(status, headers, body, self.endpoint)
        if isinstance(found, Withheld):
            return Completion(found.words, "refused", "content_filter")
        return found

    def _cause(self, error: BaseException) -> str:
        """Why there was no connection, in a few words."""
        cause = error.__cause__ or error
        return printable(redact(str(cause) or type(cause).__name__, self._key))

    def _not_there(self, cause: str) -> str:
        return (
            f"no OpenAI-compatible server answers at {self.endpoint.base_url} ({cause}); start it, "
            "or correct api.base_url"
        )

    def _client(self) -> Any:
        """The official client, made inside the event loop."""
        if self._openai is None:
            import openai

            self._openai = openai.AsyncOpenAI(
                api_key=self._key,
                base_url=self.endpoint.base_url,
                max_retries=0,
                timeout=self.endpoint.deadline,
            )
        return self._openai

    async def _turn(self, tokens: float) -> None:
        """Wait until the pacing permits the next request; first come, first served."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, tokens))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.pacing.end(now := time.monotonic(), now)
                self._admit()
            raise

    def _admit(self) -> None:
        """Let waiting requests begin."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            turn, tokens = self._waiting[0]
            if turn.done():  # Cancelled.
                self._waiting.popleft()
                continue
            now = time.monotonic()
            delay = self.pacing.wait(now, tokens)
            if delay > 0:
                if delay < float("inf"):
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(delay, self._admit)
                return
            self._waiting.popleft()
            self.pacing.begin(now, tokens)
            turn.set_result(None)

    def _ended(self, began: float, estimate: float, outcome: Completion | Fault | None) -> None:
        """A request ended."""
        now = time.monotonic()
        if isinstance(outcome, Completion):
            usage = outcome.usage or Usage()
            used = float(usage.input + usage.output) or estimate
            self._output += 0.1 * (usage.output - self._output)
            self.pacing.end(now, began, estimate, used)
        elif outcome is not None and outcome.throttled:
            self.pacing.throttled(now, began, outcome.retry_after, estimate)
        else:
            self.pacing.end(now, began)
        self._admit()

    def close(self) -> None:
        """Close connections and the background thread."""
        if self._openai is not None:
            self.loop.run(self._openai.close())
            self._openai = None
        self.loop.close()
