"""Language models as players: a base model, or the base with an adapter."""

from dataclasses import dataclass

from comity.games.base import Game
from comity.players.base import Controller
from comity.players.language_model.model_setup import ModelSetup
from comity.players.language_model.session import LanguageModelSession
from comity.players.scripted.catalog import example_turns
from comity.prompts.answer_forms.forms import Thinking
from comity.prompts.answers import Attempts, GenerationFormat


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
class LanguageModelBackend(ModelSetup):
    """The backend of every policy on one engine: all requests of one step are one batch."""

    def __hash__(self) -> int:
        return id(self)

    def check(self, game: Game) -> None:
        """Raises `ComityError` where the tokenizer cannot produce an answer that the game needs.

        Checked for the turns of a first round and of one after it.
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

    def open(self) -> LanguageModelSession:
        return LanguageModelSession(self)
