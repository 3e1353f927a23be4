"""Models behind an API as players."""

from collections.abc import Sequence
from dataclasses import dataclass

from comity.players.api.chat_log import from_code_points
from comity.players.api.session import ApiSession
from comity.players.api.setup import ApiSetup
from comity.players.base import Controller


@dataclass(frozen=True)
class ApiPlayer:
    """A model behind an API, as a player; it is never trained."""

    name: str
    backend: "ApiBackend"
    adapter: None = None
    version: int = -1
    trained: bool = False
    controller: Controller = "api"


@dataclass(frozen=True)
class ApiBackend(ApiSetup):
    """The backend of all seats of one model: all requests of a step are sent at once."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def open(self) -> ApiSession:
        return ApiSession(self)

    def text(self, ids: Sequence[int]) -> str:
        """The text of code points."""
        return from_code_points(ids)

    @property
    def has_budget(self) -> bool:
        """Whether it stops when a budget is spent."""
        return self.client.endpoint.budget is not None

    def check_budget(self) -> None:
        """Raises `BudgetReachedError` if the budget is spent."""
        self.client.check_budget()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
