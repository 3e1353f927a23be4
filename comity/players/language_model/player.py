"""Language models as players: a base model, or the base with an adapter.

`LanguageModelBackend` joins an engine (tokens), a chat format (text to tokens), a prompt (how the
game is told) and an answer format (how an answer is read). It is the host of every policy
on that engine: all their turns of one step are one batch
(`comity.players.language_model.conversations`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from comity.engines.chat import ChatFormat
from comity.engines.grammar import Grammars, shared_grammars
from comity.engines.local.engine import Engine
from comity.games.base import Game
from comity.players.base import Controller
from comity.players.language_model.conversations import Conversations
from comity.players.scripted.catalog import example_turns
from comity.prompts.answer_forms.forms import Thinking
from comity.prompts.answers import AnswerFormat, Attempts, GenerationFormat
from comity.prompts.base import Prompt
from comity.prompts.exploration import Exploration


@dataclass(frozen=True)
class Policy:
    """Base model + named adapter + temperature, as a player."""

    name: str
    backend: "LanguageModelBackend"
    adapter: str | None = None
    temperature: float = 1.0
    version: int = -1
    trained: bool = False
    past: bool = False
    """It is a learner as it was earlier in the run, or in an earlier run."""

    @property
    def controller(self) -> Controller:
        if self.trained:
            return "live"
        return "past" if self.past else "frozen"


@dataclass(frozen=True)
class LanguageModelBackend:
    """Everything that policies on one engine have in common."""

    engine: Engine
    chat: ChatFormat
    prompt: Prompt
    answer: AnswerFormat
    record: int = 0
    """Most tokens of a rollout whose passes are kept for learning (`comity.engines.local.session`).
    """
    exploration: Exploration = Exploration()  # noqa: RUF009 (frozen)
    """What players who are trained are told now and then; nobody else is."""

    dropout_adapters: frozenset[str] = frozenset()
    """Learners' adapters whose dropout is applied while they play."""

    def __hash__(self) -> int:
        return id(self)

    @cached_property
    def grammars(self) -> Grammars:
        """The grammars of the model's tokenizer; made when the first is needed."""
        return shared_grammars(self.chat, self.engine.head.vocabulary)

    def check(self, game: Game) -> None:
        """Raises `ComityError` where the tokenizer cannot write what the game asks for.

        Tried on the answers of a first round and one after it.
        """
        form = self.answer
        if not isinstance(form, GenerationFormat):
            return
        if form.thinking:
            self.grammars.compile(Thinking(form.thinking).decoding_pattern)
        if isinstance(form, Attempts) and form.fallback != "constrained":
            return
        for turn in example_turns(game):
            asked = self.prompt.form(game, turn)
            if asked is not None and not turn.legal:
                self.grammars.compile(asked.decoding_pattern)

    def open(self) -> Conversations:
        return Conversations(self)

    def text(self, ids: Sequence[int]) -> str:
        return self.chat.decode(list(ids))

    def opening_ids(self, text: str) -> list[int]:
        """Ids of a conversation's first text, up to where the model answers."""
        return self.chat.first(text)
