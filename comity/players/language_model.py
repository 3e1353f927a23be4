"""Language models as players: a base model, or the base with an adapter.

`LanguageModels` joins an engine (tokens), a chat format (text to tokens), a prompt (how the
game is told) and an answer format (how an answer is read). It is the host of every policy
on that engine: all their turns of one step are one batch.

Text becomes tokens once, when it is told. What the model chose is kept as ids and never
re-tokenized. What all legal answers begin with is told, not chosen: it is appended to the
prompt, and only the rest is scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from comity.engines.chat import ChatFormat
from comity.engines.engine import Engine
from comity.engines.scoring import Answers
from comity.engines.session import Choice, Conversation, Draw, Session
from comity.games.base import Action, Illegal
from comity.players.base import Answer, Ask, Talk
from comity.prompts.answers import AnswerFormat, Free, parse, parse_lenient, reading
from comity.prompts.base import Prompt

FORESEEN = 9
"""Most joint moves whose questions are computed ahead."""


@dataclass(frozen=True)
class Policy:
    """Base model + named adapter + temperature, as a player."""

    name: str
    host: "LanguageModels"
    adapter: str | None = None
    temperature: float = 1.0
    version: int = -1
    trained: bool = False


@dataclass(frozen=True)
class LanguageModels:
    """Everything that policies on one engine have in common."""

    engine: Engine
    chat: ChatFormat
    prompt: Prompt
    answer: AnswerFormat
    record: int = 0
    """Most tokens of a rollout whose passes are kept for learning (`comity.engines.session`)."""

    def __hash__(self) -> int:
        return id(self)

    def open(self) -> "_Conversations":
        return _Conversations(self)

    def text(self, ids: Sequence[int]) -> str:
        return self.chat.decode(list(ids))

    def opening_ids(self, text: str) -> list[int]:
        """Ids of a conversation's first text, up to where the model answers."""
        return self.chat.first(text)


def without_common_start(answers: Sequence[Sequence[int]]) -> tuple[list[int], Answers]:
    """What all answers begin with, and the rest of each; no rest is empty."""
    shortest = min(len(answer) for answer in answers)
    common = 0
    while common < shortest - 1 and len({answer[common] for answer in answers}) == 1:
        common += 1
    return list(answers[0][:common]), tuple(tuple(answer[common:]) for answer in answers)


class _Conversations:
    """The conversations of one rollout."""

    def __init__(self, models: LanguageModels) -> None:
        self.talks: list[Talk] = []
        self._models = models
        self._session = models.engine.session(models.record)
        self._prompts: dict[int, tuple[Prompt, tuple[str, ...]]] = {}
        """By match: the prompt as told there, and its labels by move."""
        self._open: dict[tuple[int, int], tuple[int, Conversation, bool]] = {}
        """By (match, seat): the talk's number, its conversation, and whether it ended its turn."""
        self._foreseen = False

    @property
    def recording(self) -> Session:
        """The session, of which a first learning step may reuse the passes."""
        return self._session

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """One answer per ask; all are one batch of the engine."""
        places = [self._tell(ask) for ask in asks]
        free = self._models.answer
        if isinstance(free, Free):
            return self._sample(asks, places, free)
        return self._choose(asks, places)

    def _tell(self, ask: Ask) -> tuple[int, Conversation]:
        """Append what the seat is told now; the talk's number and conversation."""
        models, turn = self._models, ask.turn
        prompt, _ = self._prompt(ask)
        place = (ask.match, turn.seat)
        if prompt.fresh or place not in self._open:
            ids = models.opening_ids(prompt.opening(ask.game, turn))
            conversation = self._session.conversation(ask.player.adapter)
            self.talks.append(Talk(ask.match, turn.seat, ask.player.adapter, conversation.ids))
            number = len(self.talks) - 1
        else:
            number, conversation, ended = self._open[place]
            ids = models.chat.next(prompt.following(ask.game, turn), ended)
        self._note("prompt", number, conversation, ids)
        self._open[place] = (number, conversation, False)
        return number, conversation

    def _prompt(self, ask: Ask) -> tuple[Prompt, tuple[str, ...]]:
        """The prompt of the ask's match, and its labels by move."""
        if ask.match not in self._prompts:
            prompt = self._models.prompt.varied(ask.stream)
            self._prompts[ask.match] = prompt, prompt.labels(ask.game)
        return self._prompts[ask.match]

    def _legal(self, ask: Ask) -> tuple[str, ...]:
        """The legal answers as told."""
        _, labels = self._prompt(ask)
        return tuple(labels[move] for move in ask.turn.legal)

    def _note(self, kind: str, number: int, conversation: Conversation, ids: Sequence[int]) -> None:
        """Append ids to a conversation as told ("prompt") or chosen ("answer")."""
        if ids:
            first = len(conversation.ids)
            conversation.append(ids)
            self.talks[number].pieces.append((kind, first, len(conversation.ids)))

    def _choose(self, asks: Sequence[Ask], places: list[tuple[int, Conversation]]) -> list[Answer]:
        """Score the legal answers and draw one from their exact distribution."""
        models = self._models
        choices, legals = [], []
        for ask, (number, conversation) in zip(asks, places, strict=True):
            labels = self._legal(ask)
            common, answers = without_common_start(models.chat.answer_ids(labels))
            self._note("prompt", number, conversation, common)
            choices.append(Choice(conversation, answers, _temperature(ask)))
            legals.append(labels)
        scored = self._session.score([*choices, *self._ahead(asks)])[: len(choices)]
        results = []
        for ask, (number, conversation), choice, labels, logprobs in zip(
            asks, places, choices, legals, scored, strict=True
        ):
            probabilities = np.exp(logprobs)
            picked = _draw(probabilities, ask.rng())
            start = len(conversation.ids)
            self._note("answer", number, conversation, choice.answers[picked])
            results.append(
                Answer(
                    action=ask.turn.legal[picked],
                    text=labels[picked],
                    conversation=number,
                    start=start,
                    tokens=choice.answers[picked],
                    logprob=float(logprobs[picked]),
                    legal=labels,
                    probabilities=tuple(float(p) for p in probabilities),
                    answers=choice.answers,
                    lenient=ask.turn.legal[picked],
                    reading="legal",
                )
            )
        return results

    def _ahead(self, asks: Sequence[Ask]) -> list[Choice]:
        """What later rounds may ask, to be computed in the pass of the first.

        Where every question shows the last joint move alone, there are few of them, and one
        pass over all costs less than a small one in every round. A question that comes out
        otherwise than it was foreseen is computed when it comes.
        """
        models = self._models
        prompt = models.prompt
        if self._foreseen or not prompt.fresh or prompt.drawn or getattr(prompt, "memory", 1) > 1:
            return []
        self._foreseen = True
        choices: dict[tuple[str | None, tuple[int, ...]], Choice] = {}
        # Matches of one game differ in nothing that these questions show.
        alike = {(ask.player.adapter, ask.turn.seat, ask.game): ask for ask in asks}
        for ask in alike.values():
            game, turn = ask.game, ask.turn
            length = getattr(game, "length", None)
            if length is None or length.longest == 1 or len(game.moves) ** game.seats > FORESEEN:
                continue
            labels = self._legal(ask)
            common, answers = without_common_start(models.chat.answer_ids(labels))
            for joint in product(range(len(game.moves)), repeat=game.seats):
                known = replace(turn.observation, history=(), prior=joint)
                later = replace(turn, observation=known)
                text = self._prompt(ask)[0].opening(game, later)
                ids = (*models.opening_ids(text), *common)
                if (ask.player.adapter, ids) not in choices:
                    conversation = self._session.conversation(ask.player.adapter)
                    conversation.append(ids)
                    choice = Choice(conversation, answers, _temperature(ask))
                    choices[ask.player.adapter, ids] = choice
        return list(choices.values())

    def _budget(self, labels: Sequence[str]) -> int:
        """Tokens of a free answer whose limit is left to the labels."""
        return 4 + max(len(self._models.chat.answer(label)) for label in labels)

    def _sample(
        self, asks: Sequence[Ask], places: list[tuple[int, Conversation]], form: Free
    ) -> list[Answer]:
        """Let the model write, and read what it wrote."""
        models = self._models
        starts = [len(conversation.ids) for _, conversation in places]
        legals = [self._legal(ask) for ask in asks]
        stop = frozenset(models.chat.end_ids)
        drawn = self._session.sample(
            [
                Draw(
                    conversation,
                    form.max_tokens or self._budget(labels),
                    stop,
                    ask.rng(),
                    _temperature(ask),
                )
                for ask, (_, conversation), labels in zip(asks, places, legals, strict=True)
            ]
        )
        results = []
        for ask, (number, conversation), start, one, labels in zip(
            asks, places, starts, drawn, legals, strict=True
        ):
            self.talks[number].pieces.append(("answer", start, len(conversation.ids)))
            self._open[ask.match, ask.turn.seat] = (number, conversation, one.stopped)
            text = models.text(one.ids[:-1] if one.stopped else one.ids)
            results.append(
                Answer(
                    action=_move(ask, parse(text, labels)),
                    text=text,
                    conversation=number,
                    start=start,
                    tokens=tuple(one.ids),
                    logprob=float(sum(one.logprobs)),
                    token_logprobs=tuple(one.logprobs),
                    legal=labels,
                    lenient=_move(ask, parse_lenient(text, labels)),
                    reading=reading(text, labels, one.stopped),
                )
            )
        return results


def _move(ask: Ask, index: Action) -> Action:
    """The move that an index into the legal answers stands for."""
    return index if isinstance(index, Illegal) else ask.turn.legal[index]


def _temperature(ask: Ask) -> float:
    player = ask.player
    return player.temperature if isinstance(player, Policy) else 1.0


def _draw(probabilities: np.ndarray, rng: np.random.Generator) -> int:
    """Index drawn from a distribution by one uniform number."""
    cumulative = np.cumsum(probabilities)
    point = rng.random() * cumulative[-1]
    return min(int(np.searchsorted(cumulative, point, side="right")), len(probabilities) - 1)
