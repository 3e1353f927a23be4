"""How many conversations an iteration has, and how long they can become: upper bounds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from comity.config.schema import Config
from comity.config.seats import is_api, is_scripted, learner_of
from comity.experiments.rules import Rules
from comity.games.randomness import CHECK
from comity.players.language_model.context_length import (
    SEEDS,
    largest_prompts,
    longest_conversation,
    most_answers,
)
from comity.players.language_model.generation import longest_answer
from comity.players.language_model.model_setup import ModelSetup
from comity.prompts.answers import Constrained
from comity.prompts.base import Prompt


@dataclass(frozen=True)
class Chunk:
    """What is added to every conversation between two decisions, the next answer included."""

    tokens: int
    """Tokens that it adds to a conversation."""
    distinct: int
    """Most conversations that differ at its end, not counting its answer."""
    alike: int = 0
    """Tokens at its beginning in which conversations differ only if they did before."""
    before: int = 0
    """Most conversations that differed before it, the answer then included."""

    @property
    def slots(self) -> int:
        """Distinct tokens of all conversations."""
        return self.alike * self.before + (self.tokens - self.alike) * self.distinct


@dataclass(frozen=True)
class Sizes:
    """Sizes of one iteration."""

    conversations: int
    """Most conversations of language models that differ."""
    trained: int
    """Most of them that are trained on."""
    sequences: int
    """Training sequences, equal ones counted each."""
    longest: int
    """Tokens of the longest conversation."""
    shared: int
    """Tokens with which all of them begin."""
    chunks: tuple[Chunk, ...]
    """The rest of a conversation, one for each decision."""
    sampled: int
    """Most sampled tokens of a decision; 0: answers are scored."""
    opening: int
    """Most tokens of a first prompt after the shared ones."""
    openings: int
    """Most first prompts that differ."""
    prompt: int
    """Tokens that a conversation adds in the largest later pass of play."""
    together: float
    """Share of the conversations that are in that pass; in turns, it is not all of them."""
    answers: int
    """Most answers in one conversation and round."""

    @property
    def own(self) -> int:
        """Tokens of a conversation after the shared ones."""
        return sum(chunk.tokens for chunk in self.chunks)

    @property
    def distinct(self) -> int:
        """Distinct tokens of all conversations."""
        return self.shared + sum(chunk.slots for chunk in self.chunks)

    def passes(self) -> Iterator[int]:
        """Distinct tokens after each forward pass of play: a prompt, or one sampled token."""
        end = self.shared
        for chunk in self.chunks:
            sampled = min(self.sampled, chunk.tokens - 1)
            end += chunk.slots - sampled * chunk.distinct
            yield end
            for _ in range(sampled):
                end += chunk.distinct
                yield end

    def ids(self, number: int, vocabulary: int) -> tuple[int, ...]:
        """Token ids that stand for a conversation: as long, and as different from the others."""
        ids = [1] * self.shared
        for chunk in self.chunks:
            parts = (chunk.alike, chunk.before), (chunk.tokens - chunk.alike, chunk.distinct)
            for tokens, distinct in parts:
                code, digits = number % max(1, distinct), []
                for _ in range(min(tokens, 3)):
                    digits.append(code % vocabulary)
                    code //= vocabulary
                ids += digits + [0] * (tokens - len(digits))
        return tuple(ids)


def conversation_sizes(config: Config, rules: Rules, setup: ModelSetup) -> Sizes:
    """The sizes of one iteration of a run."""
    game, prompt = rules.game, rules.prompt
    playing = [one for one in config.seats if not is_scripted(one) and not is_api(one)]
    learning = [one for one in config.seats if learner_of(one) is not None]
    rounds = getattr(getattr(game, "length", None), "longest", 1)
    longest = longest_conversation(setup, game, canonical=True)
    openings, sampled = _openings(setup, game)
    shared = min(_common_prefix(openings), longest - 1)
    most = config.matches * max(1, len(playing))
    # Scored answers of equal prompts: conversations differ by what was played before only.
    counted = not sampled and not prompt.random_parameters and bool(game.moves)
    moves, joint = len(game.moves), len(game.moves) ** game.seats
    views = len({tuple(one) for one in openings[: game.seats]})
    if prompt.single_turn:
        memory = min(getattr(prompt, "memory", 1), rounds - 1)
        states = views * sum(joint**seen for seen in range(memory + 1))
        first_prompts = min([most, *[states] * counted])
        chunks = [Chunk(longest - shared, min([most * rounds, *[states] * counted]))]
    else:
        first_prompts = views if len({tuple(one) for one in openings}) == views else most
        first = min(longest - shared, max(1, sampled)) if rounds > 1 else longest - shared
        each, left = divmod(longest - shared - first, max(1, rounds - 1))
        chunks = [Chunk(first, min([most, *[views] * counted]))]
        alike = min(_tokens_before_news(setup, game), each - 1) if counted and each else 0
        for number in range(rounds - 1):
            # What the others did is told after some tokens; until then, own answers differ alone.
            own = min(most, chunks[-1].distinct * moves) if counted else most
            distinct = min([most, *[views * joint ** (number + 1)] * counted])
            tokens = each + (1 if number < left else 0)
            chunks.append(Chunk(tokens, distinct, alike, own))
    conversations = chunks[-1].distinct
    sequences = config.matches * len(learning) * _decisions(prompt, rounds)
    told, together = chunks[-1].tokens - sampled, 1.0
    if sampled and not prompt.single_turn:  # Sampled tokens come one by one, between prompts.
        step = largest_prompts(setup, game)
        told = 1 if step is None else min(told, step.prompt)
        together = 1.0 if step is None else step.together / game.seats
    return Sizes(
        *(
            conversations,
            min(conversations, sequences),
            sequences,
            longest,
            shared,
            tuple(chunks),
            sampled,
        ),
        opening=max(0, max(map(len, openings)) - shared),
        openings=first_prompts,
        prompt=max(1, told),
        together=together,
        answers=1 if prompt.single_turn else most_answers(setup, game),
    )


def _decisions(prompt: Prompt, rounds: int) -> int:
    """Conversations of a seat in a match."""
    return rounds if prompt.single_turn else 1


def _openings(setup: ModelSetup, game: Any) -> tuple[list[list[int]], int]:
    """First prompts of several matches (of one-shot prompts those of two rounds), and the most
    tokens that are sampled for an answer: 0 if all answers are scored.
    """
    found, most = [], 0
    for seed in range(SEEDS):
        prompt, one = setup.prompt.sample_variant((seed, CHECK)), game.sample_instance(seed)
        state, labels = one.start(seed), prompt.labels(one)
        for _ in range(2 if prompt.single_turn else 1):
            turns = one.turns(state)
            for turn in turns:
                text = prompt.opening(one, turn)
                found.append(list(setup.chat.encode_first_prompt(text)))
                form = prompt.form(one, turn)
                if form is not None or not isinstance(setup.answer, Constrained):
                    legal = [labels[move] for move in turn.legal]
                    most = max(most, longest_answer(setup, turn.kind, form, legal))
            if not turns or not all(turn.legal for turn in turns):
                break
            moves = {turn.seat: turn.legal[seed % len(turn.legal)] for turn in turns}
            state = one.step(state, moves)
    return found, most


def _tokens_before_news(setup: ModelSetup, game: Any) -> int:
    """Tokens of a later prompt before it says what the others did; 0 if the game ends before."""
    prompt, one = setup.prompt.sample_variant((0, CHECK)), game.sample_instance(0)
    state = one.start(0)
    seat, prompts = one.turns(state)[0].seat, []
    for pick in (0, -1):
        picks = {turn.seat: turn.legal[pick * (turn.seat != seat)] for turn in one.turns(state)}
        later = [turn for turn in one.turns(one.step(state, picks)) if turn.seat == seat]
        texts = [prompt.following(one, turn) for turn in later[:1]]
        prompts += [setup.chat.encode_next_prompt(text, ended=False) for text in texts]
    return _common_prefix(prompts) if len(prompts) > 1 else 0


def _common_prefix(sequences: list[list[int]]) -> int:
    """Length of the longest common prefix."""
    low, high = min(sequences), max(sequences)
    pairs = zip(low, high, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(low), len(high)))
