"""The records: what is kept of every decision and every conversation.

A `Decision` is one answer of one seat; a `Conversation` is the token sequence that it
stands in. Both are written as Parquet, one file each per iteration; everything that is
reported later is derived from them.
"""

from dataclasses import dataclass, field

from comity.players.base import Controller


@dataclass
class Decision:
    """One answer of one seat. Mutable only for the three numbers that credit adds."""

    iteration: int
    match: int
    """Number of the match inside the iteration."""
    group: int
    """Matches of one group share their environment seed."""
    seed: int
    """Environment seed: `game.start(seed)` replays the match's chances (but for a length that is
    drawn for a batch or a run)."""
    seat: int
    round: int
    step: int
    kind: str
    player: str
    """Name of the player on the seat: "tit_for_tat", "base", "learner"; a past agent: its
    learner's seat and its snapshot, "learner@000010"."""
    adapter: str | None
    """Adapter that answered; None: the base model, or not a language model."""
    version: int
    """Number of updates that the adapter had seen; -1 where there is no adapter."""
    controller: Controller
    """What kind of player decided (`comity.players.base.CONTROLLERS`)."""
    trained: bool
    """This decision is used for learning."""
    conversation: int
    """Key of its conversation in the same iteration; -1: not a language model."""
    start: int
    """Index in the conversation's ids where the answer begins; -1: none."""
    tokens: list[int]
    """Exactly the ids that were chosen (forced parts left out)."""
    logprob: float
    """Natural log of the probability of the whole answer under the distribution sampled from."""
    token_logprobs: list[float]
    """Per chosen token, free answers only; empty where the answer was scored as a whole."""
    legal: list[str]
    """The legal answers as shown in the prompt; empty for strategies."""
    probabilities: list[float]
    """Probability of each legal answer, same order (for strategies: of each move); empty
    where not known."""
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
    return_: float = float("nan")
    """Discounted return of what the learner is trained on (over the algorithm's reward scale)."""
    advantage: float = float("nan")
    """The credit that the decision is trained with."""
    lenient_move: int = -1
    """Index of the move whose label alone occurs in the text; -1 none or several."""
    parse_status: str = ""
    """What the answer turned out to be (`comity.prompts.answers.PARSE_STATUSES`); scripts: ""."""
    normalized_reward: float = float("nan")
    """The reward as a share of its range in the match's own payoff table: 0 the least of any answer
    (an illegal one, where that is penalized), 1 the most of a legal one; NaN where not defined."""
    rewards: dict[str, float] = field(default_factory=dict)
    """What every reward would have been, by name."""
    claim: list[int] = field(default_factory=list)
    """Units of each item claimed, as it counted; empty unless the kind is "claim"."""
    stock: list[int] = field(default_factory=list)
    """Units that there were of each item; like the next three for claims and responses only, and
    for the last message of a seat that could not claim because the round was ended."""
    values: list[float] = field(default_factory=list)
    """Points per unit of each item for this seat."""
    allocation: list[float] = field(default_factory=list)
    """Units of each item that this seat got."""
    max_welfare: float = float("nan")
    """Points of the split that would have been best for all seats together."""
    attempts: int = 1
    """How often was answered until an answer counted."""
    constrained: bool = False
    """Written under a grammar."""
    message_as_read: str = ""
    """A message as the other seats read it."""
    offsets: list[int] = field(default_factory=list)
    """Place of each chosen token, from `start`; empty: they follow one another."""
    grammar: str = ""
    """The regular expression that it was sampled under; "": none."""
    finish_reason: str = ""
    """Why sampling stopped (`comity.engines.local.sampling.Sample`); "": not sampled by token.
    """


@dataclass
class Piece:
    """A stretch of a conversation."""

    kind: str
    """One of `comity.players.base.PIECES`."""
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
