"""An upper bound on conversation lengths, computed before any play.

Prompts are rendered as in a match, with the longest possible answers: each uses its whole token
budget, and so do the messages of other seats. Scored answers reach the bound; generated ones
rarely do.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from comity.engines.local.sampling import UTF8_CONTINUATION_BYTES
from comity.errors import ComityError
from comity.games.base import ILLEGAL, Game, Reply, Turn
from comity.games.lengths import Geometric, SampledLength
from comity.games.randomness import CHECK
from comity.players.language_model.generation import longest_answer
from comity.players.language_model.model_setup import ModelSetup
from comity.prompts.answer_forms.forms import Form, MessageOrClaimForm, Thinking
from comity.prompts.answers import Attempts, Free, GenerationFormat

ROUNDS = 6
"""Most rounds that are rendered one by one."""
SEEDS = 4
"""Number of rendered matches."""
CHOICES = "first", "last", "illegal"
"""What all seats choose in rendered matches."""


def check_context(
    setup: ModelSetup, game: Game, after: int = 0, on_server: int | None = None
) -> None:
    """Check that the longest conversation fits the model.

    `after`: most tokens of a follow-up question and its answer. `on_server`: most tokens of a
    conversation on the server that samples its text. Raises `ComityError` if the model has too few
    positions, or the server takes too few tokens, and warns if the model was trained on shorter
    contexts.
    """
    limit = setup.engine.context_limit
    if limit.max_tokens is None and on_server is None:
        return
    longest = longest_conversation(setup, game) + after
    advice = f"; shorten it: {_keys(setup, game)}"
    if on_server is not None and longest > on_server:
        raise ComityError(
            f"a conversation can take {longest} tokens, and the vLLM server takes {on_server} "
            f"(--max-model-len){advice}"
        )
    limit.check(longest, "a conversation can take", advice)


def longest_conversation(setup: ModelSetup, game: Game, canonical: bool = False) -> int:
    """Most tokens of a seat's conversation.

    Every round counts as the longest of several rendered ones. Random parts (values, payoffs,
    labels) are those of a few matches; the difference between these matches is added as a margin.

    `canonical`: delimiters and claims have as many tokens as the tokenizer gives them. Otherwise as
    many as a model could need that divides them in another way, which trained models hardly do.
    """
    rounds = getattr(getattr(game, "length", None), "longest", 1)
    firsts, steps, lengths, spread = [0], [0], [0], 0
    for choice in CHOICES:
        matches = [
            _lengths_by_round(setup, game.sample_instance(seed), seed, choice, canonical)
            for seed in range(SEEDS)
        ]
        for found in matches:
            firsts.append(found[0])
            steps += [after - before for before, after in pairwise(found)]
            lengths += found
        least = min(map(len, matches))
        longest = [max(found[:least]) for found in matches]
        spread = max(spread, max(longest) - min(longest))
    if setup.prompt.single_turn:  # Each prompt shows a few rounds.
        more = max(0, getattr(setup.prompt, "memory", 1) - ROUNDS + 2) * max(steps)
        return max(lengths) + more + spread
    digits = 1 if rounds > 9 else 0  # Digits of the round number.
    return max(firsts) + (rounds - 1) * (max(steps) + digits) + spread


@dataclass(frozen=True)
class Step:
    """A turn of a rendered match, with upper bounds on what it adds to the conversation."""

    turn: Turn
    opens: bool
    """Whether it is the first of the conversation."""
    prompt: int
    """Tokens of the prompt, messages that it tells of included."""
    answer: int
    """Tokens of the answer."""
    together: int
    """Seats that answer at the same time."""


def largest_prompts(setup: ModelSetup, game: Game) -> Step | None:
    """The step in which a match adds the most prompt tokens at a time, after first prompts."""
    later = (step for step in _rendered(setup, game) if not step.opens)
    return max(later, key=lambda step: step.prompt * step.together, default=None)


def most_answers(setup: ModelSetup, game: Game) -> int:
    """Most answers of a seat in one round."""
    one = _steps(setup, game.sample_instance(0), 0, "last")
    return max(Counter((step.turn.seat, step.turn.round) for step in one).values(), default=1)


def _rendered(setup: ModelSetup, game: Game) -> Iterator[Step]:
    """The steps of all rendered matches."""
    for choice in CHOICES:
        for seed in range(SEEDS):
            yield from _steps(setup, game.sample_instance(seed), seed, choice)


def _lengths_by_round(
    setup: ModelSetup, game: Any, seed: int, choice: str, canonical: bool = False
) -> list[int]:
    """Tokens of the longest conversation after each round, if all seats choose like that."""
    lengths: dict[int, int] = {}
    by_round: list[int] = []
    for step in _steps(setup, game, seed, choice, canonical):
        turn = step.turn
        before = 0 if setup.prompt.single_turn else lengths.get(turn.seat, 0)
        lengths[turn.seat] = before + step.prompt + step.answer
        by_round[turn.round :] = [max(lengths.values())]
    return by_round


def _steps(
    setup: ModelSetup, game: Any, seed: int, choice: str, canonical: bool = False
) -> Iterator[Step]:
    """Every turn of a match in which all seats choose like that."""
    chat, prompt = setup.chat, setup.prompt.sample_variant((seed, CHECK))
    length = getattr(game, "length", None)
    if length is not None:
        game = replace(game, length=SampledLength(length, min(length.longest, ROUNDS)))
    thought = _thought(setup)
    note = f"\n{thought.format_request()}" if thought else ""
    sentences = [f"{one.sentence}\n" for one in setup.exploration.instructions]
    instruction = max((len(chat.encode_text(one)) for one in sentences), default=0)
    labels = prompt.labels(game)
    received: dict[int, int] = {}
    opened: set[int] = set()
    state = game.start(seed)
    while turns := game.turns(state):
        replies: dict[int, Reply] = {}
        for turn in turns:
            first = prompt.single_turn or turn.seat not in opened
            opened.add(turn.seat)
            if first:
                told = len(chat.encode_first_prompt(prompt.opening(game, turn) + note))
            else:
                text = prompt.following(game, turn) + note
                told = len(chat.encode_next_prompt(text, ended=False))
            told += received.pop(turn.seat, 0) + instruction
            answer = _answer(setup, game, turn, labels, canonical)
            yield Step(turn, first, told, answer, len(turns))
            replies[turn.seat] = _reply(setup, game, turn, choice)
        for turn in turns:
            if turn.kind in ("message", "talk"):
                form = prompt.form(game, turn)
                most = longest_answer(setup, "message", getattr(form, "message", form), ())
                for other in range(game.seats):
                    if other != turn.seat:
                        received[other] = received.get(other, 0) + most
        state = game.step(state, replies)


def _answer(
    setup: ModelSetup, game: Game, turn: Turn, labels: Sequence[str], canonical: bool = False
) -> int:
    """Most tokens of a seat's answers at one turn, including failed attempts and complaints."""
    settings, chat = setup.answer, setup.chat
    thought = _thought(setup)
    before = chat.answer_length(thought.longest) + _guided(setup, thought) if thought else 0
    legal = [labels[move] for move in turn.legal]
    form = setup.prompt.form(game, turn)
    once = longest_answer(setup, turn.kind, form, legal)
    if canonical and form is not None and not legal:
        last = _canonical(setup, turn.kind, form)
    else:
        last = max(map(chat.answer_length, legal)) if legal else once + _guided(setup, form)
    tries = settings.free_attempts if isinstance(settings, Attempts) else 0
    if isinstance(settings, Free):
        return once
    if tries < 1:
        return before + last
    constrained = isinstance(settings, Attempts) and settings.fallback == "constrained"
    if not (isinstance(settings, Attempts) and settings.retry_feedback == "append"):
        return before + (max(once, last) if constrained else once)
    complaint = len(chat.encode_next_prompt(settings.complaint, ended=False))
    more = complaint + last if constrained else 0
    return before + tries * once + (tries - 1) * complaint + more


def _canonical(setup: ModelSetup, kind: str, form: Form) -> int:
    """Tokens of the longest answer that has a form, divided as the tokenizer does."""
    if isinstance(form, MessageOrClaimForm):
        return max(_canonical(setup, "message", form.message), _canonical(setup, "", form.claim))
    text = longest_answer(setup, kind, form, ()) if kind == "message" else 0
    return text + setup.chat.answer_length(form.longest)


def _guided(setup: ModelSetup, form: Form | Thinking | None) -> int:
    """Most tokens that constrained decoding adds to the sampled ones: forced tokens, the rest of
    a character and the closing delimiter.
    """
    assert form is not None
    return (
        setup.chat.answer_length(form.longest)
        + UTF8_CONTINUATION_BYTES
        + len(setup.chat.encode_text(form.closing))
    )


def _reply(setup: ModelSetup, game: Any, turn: Turn, choice: str) -> Reply:
    """A placeholder reply; the lengths of messages are added separately."""
    if turn.kind in ("message", "talk"):
        return ""
    form = setup.answer
    free = isinstance(form, Free) or (isinstance(form, Attempts) and form.fallback == "illegal")
    # Prompts report a tremble as they report an illegal answer.
    noisy = getattr(game, "noise", 0.0) > 0
    if choice == "illegal" and (free or not turn.legal or noisy):
        return ILLEGAL
    if turn.kind == "claim":
        stock: tuple[int, ...] = turn.observation.instance.stock  # type: ignore[attr-defined]
        return stock if choice == "last" else (0,) * len(stock)
    return turn.legal[-1 if choice == "last" else 0]


def _thought(setup: ModelSetup) -> Thinking | None:
    """The thinking block before every answer, if there is one."""
    form = setup.answer
    return Thinking(form.thinking) if isinstance(form, GenerationFormat) and form.thinking else None


def _keys(setup: ModelSetup, game: Any) -> str:
    """The settings that determine the length of conversations."""
    length = getattr(game, "length", None)
    found = []
    if length is not None and length.longest > 1 and not setup.prompt.single_turn:
        name = "cap" if isinstance(length, Geometric) else "rounds"
        found.append(f"game.length.{name} (now {length.longest})")
    if getattr(game, "messages", 0) and isinstance(setup.answer, GenerationFormat):
        found.append(f"answer.message_tokens (now {setup.answer.message_tokens})")
    if thought := _thought(setup):
        found.append(f"answer.thinking (now {thought.limit})")
    if getattr(setup.prompt, "memory", 1) > 1:
        found.append(f"prompt.memory (now {setup.prompt.memory})")  # type: ignore[attr-defined]
    if not setup.prompt.single_turn and game.moves and not hasattr(game, "message_limit"):
        found.append("prompt=memory_one (if the game supports it)")
    return " or ".join(found) or "use another prompt"
