"""What all seats of one model behind an API share: client, prompt and answer format."""

from dataclasses import dataclass

from comity.engines.api.client import ApiClient
from comity.prompts.answers import AnswerFormat, Attempts, GenerationFormat
from comity.prompts.base import Prompt


@dataclass(frozen=True)
class ApiSetup:
    """A client with the prompts and answers of an experiment."""

    client: ApiClient
    prompt: Prompt
    answer: AnswerFormat
    system: str | None = None
    """System prompt; None: none."""
    attempts: int | None = None
    """Most attempts at an answer that can be read; None: those of the answer format."""
    structured: bool = False
    """Send the form of the answer with the request (`comity.players.api.structured`)."""

    def __hash__(self) -> int:
        return id(self)

    @property
    def most_attempts(self) -> int:
        """The free attempts of the format `attempts`; 1 for other formats, and at least 1."""
        if self.attempts is not None:
            return self.attempts
        return max(1, self.answer.free_attempts) if isinstance(self.answer, Attempts) else 1

    @property
    def thinking(self) -> int:
        """Most characters of a thinking block before the answer; 0: none."""
        # A schema leaves no room for a block.
        if self.structured or not isinstance(self.answer, GenerationFormat):
            return 0
        return self.answer.thinking
