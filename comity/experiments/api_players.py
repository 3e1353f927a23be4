"""The models behind APIs that a config seats: their clients, their answer log, their usage."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from comity.config.api_schema import ApiConfig
from comity.config.schema import Config
from comity.config.seats import api_settings, is_api
from comity.engines.api.answer_log import AnswerLog
from comity.engines.api.client import ApiClient
from comity.engines.api.settings import Endpoint, Prices
from comity.engines.api.usage import Totals, describe
from comity.evaluation.metrics import api_outcomes
from comity.players.api.player import ApiBackend, ApiPlayer
from comity.prompts.answers import AnswerFormat
from comity.prompts.base import Prompt
from comity.rollout.records import Decision

ANSWERS_FILE = "api_answers.jsonl"
"""The answer log in a run folder."""


def endpoint_of(settings: ApiConfig) -> Endpoint:
    """The endpoint of a config's settings; `ComityError` for invalid ones."""
    return Endpoint(
        model=settings.model,
        base_url=settings.base_url,
        parameters=settings.parameters,
        api_key_env=settings.api_key_env,
        prices=Prices(**vars(settings.prices)),
        budget=settings.budget,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        concurrency=settings.concurrency,
        deadline=settings.deadline,
        tries=settings.tries,
        backoff=settings.backoff,
    )


def check_apis(seats: Iterable[Any], block: ApiConfig | None) -> None:
    """Raises `ComityError` for invalid settings of a seat with a model behind an API."""
    for seat in seats:
        if is_api(seat):
            endpoint_of(api_settings(seat, block))


class ApiPlayers:
    """Makes players; seats with equal settings share a client. A context manager."""

    def __init__(
        self, block: ApiConfig | None, prompt: Prompt, answer: AnswerFormat, log: Path | None = None
    ) -> None:
        self._block, self._prompt, self._answer = block, prompt, answer
        self.log = AnswerLog(log)
        self._backends: list[tuple[ApiConfig, ApiBackend]] = []
        self._told = Totals()

    @staticmethod
    def of(config: Config, prompt: Prompt, answer: AnswerFormat) -> "ApiPlayers":
        """Those of a config's seats; raises `ComityError` where a key or a server is missing."""
        made = ApiPlayers(config.api, prompt, answer)
        try:
            for seat in config.seats:
                if is_api(seat):
                    made.player(seat)
            made.check_servers()
        except BaseException:
            made.close()
            raise
        return made

    def player(self, seat: Any, name: str | None = None) -> ApiPlayer:
        """The player of a seat's entry, called `api:MODEL@BASE_URL` unless it has a `name`."""
        settings = api_settings(seat, self._block)
        known = [backend for one, backend in self._backends if one == settings]
        if not known:
            client = ApiClient(endpoint_of(settings), self.log)
            known = [
                ApiBackend(
                    client,
                    self._prompt,
                    self._answer,
                    settings.system,
                    settings.attempts,
                    settings.structured,
                )
            ]
            self._backends.append((settings, known[0]))
        return ApiPlayer(name or f"api:{settings.model}@{settings.base_url}", known[0])

    def __bool__(self) -> bool:
        return bool(self._backends)

    def check_servers(self) -> None:
        """Raises `ComityError` where no server is, or where it refuses the key."""
        for _, backend in self._backends:
            backend.client.check_server()

    def open(self, folder: Path, check: bool = False) -> None:
        """Keep the answers in a run's folder, and find those that are there.

        `check`: as `check_servers`.
        """
        if check:
            self.check_servers()
        if self._backends:
            self.log.close()
            self.log = AnswerLog(folder / ANSWERS_FILE)
            for _, backend in self._backends:
                backend.client.log = self.log

    @property
    def used(self) -> Totals:
        """Sums over all answers that were asked for, whether from the log or not."""
        total = Totals()
        for _, backend in self._backends:
            total = total.plus(backend.client.used)
        return total

    @property
    def retries(self) -> dict[str, int]:
        """Requests that were sent again since the clients were made, by endpoint."""
        found: dict[str, int] = {}
        for _, backend in self._backends:
            client = backend.client
            name = client.endpoint.name
            found[name] = found.get(name, 0) + sum(client.used.retries.values())
        return found

    def describe(self) -> str:
        """Usage so far in a few words, for a progress line; "" without such players."""
        return describe(self.used) if self._backends else ""

    def metrics(self, decisions: Sequence[Decision], missing: int = 0) -> dict[str, Any]:
        """Usage since the last call, and outcomes, for metrics.jsonl; {} without such players.

        `missing`: matches that were abandoned.
        """
        if not self._backends:
            return {}
        outcomes = {"outcomes": api_outcomes(decisions), "missing": missing}
        before, self._told = self._told, self.used
        return {"api": {**self._told.since(before).as_row(), **outcomes}}

    def close(self) -> None:
        """Close connections and the log."""
        for _, backend in self._backends:
            backend.close()
        self._backends = []
        self.log.close()

    def __enter__(self) -> "ApiPlayers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
