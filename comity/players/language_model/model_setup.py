"""What all policies on one engine share: engine, chat format, prompt and answer format."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from comity.engines.chat import ChatFormat
from comity.engines.grammar import GrammarCompiler, shared_grammar_compiler
from comity.engines.local.engine import Engine
from comity.prompts.answers import AnswerFormat
from comity.prompts.base import Prompt
from comity.prompts.exploration import Exploration


@dataclass(frozen=True)
class ModelSetup:
    """An engine (tokens) with a chat format (text to tokens), a prompt and an answer format."""

    engine: Engine
    chat: ChatFormat
    prompt: Prompt
    answer: AnswerFormat
    record: int = 0
    """Most tokens of a rollout whose forward passes are kept for learning
    (`comity.engines.local.session`)."""
    exploration: Exploration = Exploration()  # noqa: RUF009 (frozen)
    """Extra instructions; only trained players get them."""
    dropout_adapters: frozenset[str] = frozenset()
    """Adapters whose dropout is applied during play."""

    def __hash__(self) -> int:
        return id(self)

    @cached_property
    def grammars(self) -> GrammarCompiler:
        """The grammars of the model's tokenizer; built on first use."""
        return shared_grammar_compiler(self.chat, self.engine.head.vocabulary)

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return self.chat.decode(list(ids))

    def opening_ids(self, text: str) -> list[int]:
        """Ids of a conversation's first prompt, up to where the model answers."""
        return self.chat.encode_first_prompt(text)
