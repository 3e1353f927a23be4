"""The records: what is kept of every decision and every conversation.

A `Decision` is one answer of one seat; a `Conversation` is the token sequence that it
stands in. Both are written as Parquet, one file each per iteration; everything that is
reported later is derived from them.
"""

from dataclasses import dataclass, field


@dataclass
class Decision:
    """One answer of one seat. Mutable only for the three numbers that credit adds."""

    iteration: int
    match: int
    """Number of the match inside the iteration."""
    group: int
    """Matches of one group share their environment seed."""
    seed: int
    """Environment seed: `game.start(seed)` replays the match's chances."""
    seat: int
    round: int
    step: int
    kind: str
    player: str
    """Name of the player on the seat ("tit_for_tat", "base", "own")."""
    adapter: str | None
    """Adapter that answered; None: the base model, or not a language model."""
    version: int
    """Number of updates that the adapter had seen; -1 where there is no adapter."""
    trained: bool
    """This decision is used for learning."""
    conversation: int
    """Key of its conversation in the same iteration; -1: not a language model."""
    start: int
    """Index of the first chosen token in the conversation's ids; -1: none."""
    tokens: list[int]
    """Exactly the ids that were chosen (forced parts left out)."""
    logprob: float
    """Natural log of the probability of the whole answer under the distribution sampled from."""
    token_logprobs: list[float]
    """Per chosen token, free answers only; empty where the answer was scored as a whole."""
    legal: list[str]
    """The legal answers as told; empty for scripted players."""
    probabilities: list[float]
    """Probability of each legal answer, same order; empty where not known."""
    text: str
    """The answer as it was given."""
    move: int
    """Index of the intended move; -1 illegal."""
    move_name: str
    """Its name ("cooperate"), or "illegal"."""
    played: int
    """Index of the move after trembles and the illegal rule; -1 none."""
    state: list[int]
    """Last round's moves as shown, own first, then the others in seat order; empty: nothing yet."""
    payoff: float
    """What the game paid this seat in this round (given once, at the round's last step)."""
    reward: float = float("nan")
    """What the learner is trained on; NaN where not computed."""
    ret: float = float("nan")
    """Discounted return."""
    advantage: float = float("nan")
    lenient: int = -1
    """Index of the move whose label alone occurs in the text; -1 none or several."""
    reading: str = ""
    """What the answer turned out to be (`comity.prompts.answers.READINGS`); scripts: ""."""
    rewards: dict[str, float] = field(default_factory=dict)
    """What every reward would have been, by name."""


@dataclass
class Piece:
    """A stretch of a conversation."""

    kind: str
    """"prompt": told to the model or forced; "answer": chosen by the model."""
    start: int
    end: int
    text: str


@dataclass
class Conversation:
    """One growing token sequence."""

    iteration: int
    conversation: int
    match: int
    seat: int
    adapter: str | None
    ids: list[int]
    pieces: list[Piece] = field(default_factory=list)
