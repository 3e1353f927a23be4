"""The summaries that the pages of tournaments and exploit runs are made from: plain values.

Everything can be written as JSON (no NaN, no infinities: unknown numbers are None). Agents have
one name everywhere (`tit_for_tat`, `run:runs/x@120`, `api:MODEL@BASE_URL`); a part of the summary
that does not apply is empty ({}, [] or None) rather than missing, unless its docstring says more.
"""

from typing import Any, Literal, NotRequired, TypedDict

Kind = Literal["scripted", "axelrod", "run", "model", "api", "human"]
"""Where a player's answers come from."""
Better = Literal["high", "low", "none"]
"""Whether more of a metric is better for the agent; "none": it only describes."""


class Estimate(TypedDict):
    """A mean and its confidence interval."""

    mean: float | None
    """None where nothing was measured."""
    low: float | None
    high: float | None
    """None where the data give no interval."""
    n: int
    """Independent units behind it, such as matches."""
    note: str
    """What the interval is over, or why there is none; may be ""."""


class Game(TypedDict):
    """The rules that were played."""

    name: str
    description: str
    settings: dict[str, Any]
    symmetric: bool
    """Whether both seats have the same moves and payoffs."""
    unit: str
    """Unit of payoffs: "payoff per round"."""


class Player(TypedDict):
    """One agent of the tournament."""

    name: str
    kind: Kind
    description: str
    details: dict[str, Any]
    """Further facts, such as a model, parameters, or a strategy's classifiers."""


class Metric(TypedDict):
    """A definition; the page shows it wherever the metric's numbers stand."""

    label: str
    definition: str
    formula: str
    source: str
    unit: str
    """"share" and "probability" are written as percents."""
    bounds: list[float | None]
    """`[low, high]`; None: no bound on that side."""
    better: Better


class Pair(TypedDict):
    """An ordered pair; metrics are the row player's. Self-play has the same name twice."""

    row: str
    column: str
    matches: int
    identical: bool
    """Whether all matches of the pair are the same, because both players are deterministic."""
    metrics: dict[str, Estimate]


class Agent(TypedDict):
    """An agent over all of its opponents, with equal weights."""

    name: str
    rank: int
    metrics: dict[str, Estimate]
    unmet: NotRequired[list[str]]
    """Opponents of whom no match with the agent is in the table: its means are over the others,
    and not comparable with those of agents that met everybody."""


class Clean(TypedDict):
    """The same over matches without a forfeit, in which every answer was a move."""

    pairs: list[Pair]
    agents: list[Agent]


class Outcomes(TypedDict):
    """How requests of a language model ended, in answers."""

    answered: int
    illegal: int
    refused: int
    """Refusals and content filters."""
    cut_off: int
    """The token limit was reached before an answer."""
    failed: int
    """Transport failures; such a match is missing."""


class Usage(TypedDict):
    """What an API player used; `cost` is None where a price is unknown."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    retries: int


class Equilibrium(TypedDict):
    """A Nash equilibrium of the stage game."""

    strategies: list[list[float]]
    """Probabilities of the moves, `[seat][move]`."""
    payoffs: list[float]
    """Expected payoff of each seat."""
    pure: bool


class Schelling(TypedDict):
    """Payoff of one seat by how many of the others cooperate, from none to all."""

    cooperate: list[float]
    defect: list[float]


class References(TypedDict, total=False):
    """Reference points of the stage game; any part may be missing."""

    equilibria: list[Equilibrium]
    welfare: float
    """Largest sum of all seats' payoffs in a round."""
    minimax: list[float]
    """What each seat can secure against the others, in mixed strategies."""
    price_of_anarchy: float | None
    schelling: Schelling | None


class MetaEquilibrium(TypedDict):
    """An equilibrium of the empirical game, whose strategies are the agents."""

    mixture: dict[str, float]
    payoff: float
    symmetric: bool


class RestPoint(TypedDict):
    """A rest point of the replicator dynamics, and the share of starts that reach it."""

    mixture: dict[str, float]
    basin: float


class Replicator(TypedDict):
    """Replicator dynamics of the cross-play matrix."""

    points: list[RestPoint]
    trajectories: list[list[list[float]]]
    """`[trajectory][time][agent]` in the order of the players, for three agents; otherwise []."""


class Elo(TypedDict):
    """Elo ratings, and how much of the results they cannot express."""

    ratings: dict[str, float]
    cyclic_share: float
    """Share of the pairwise results that no rating explains, from 0 to 1."""
    warning: str
    """"" if the ratings order the agents well enough."""


class Moran(TypedDict):
    """A Moran process that starts with as many members of each agent."""

    fixation: dict[str, float]
    """Probability of each agent to take over."""
    members: int
    runs: int
    """Simulated processes; 0: exact."""
    fitness: str
    """"payoff", or "exp(payoff)" where payoffs can be negative."""


class Metagame(TypedDict, total=False):
    """The empirical game over agents; any part may be missing."""

    equilibria: list[MetaEquilibrium]
    replicator: Replicator
    alpha_rank: dict[str, float]
    """Mass of each agent in the stationary distribution."""
    deviation_ratings: dict[str, float]
    elo: Elo
    moran: Moran | None


class Comparison(TypedDict):
    """A paired comparison of two agents under common random numbers."""

    first: str
    second: str
    difference: Estimate
    """First minus second."""
    p: float | None
    p_corrected: float | None
    """Corrected for the number of comparisons."""
    verdict: str


class TranscriptRound(TypedDict):
    """One round: moves and payoffs by seat, the row player's first."""

    moves: list[Any]
    payoffs: list[float]
    messages: NotRequired[list[tuple[int, str]]]
    """`[seat, text]`, in the order in which they were sent."""


class Transcript(TypedDict):
    """One match."""

    row: str
    column: str
    seed: int
    rounds: list[TranscriptRound]


class TournamentSummary(TypedDict):
    """What `write_tournament_page` takes."""

    schema: int
    """1."""
    kind: str
    """"tournament"."""
    title: str
    game: Game
    seed: int
    matches: int
    """Matches of each ordered pair that were asked for."""
    played: int
    missing: int
    missing_reasons: dict[str, int]
    version: str
    created: str
    """ISO date."""
    command: NotRequired[str]
    """What starts the same again."""
    versions: NotRequired[dict[str, Any]]
    """Libraries, code revision and machine."""
    players: list[Player]
    metrics: dict[str, Metric]
    pairs: list[Pair]
    agents: list[Agent]
    clean: Clean | None
    outcomes: dict[str, Outcomes]
    usage: dict[str, Usage]
    references: References
    metagame: Metagame
    populations: NotRequired[dict[str, dict[str, Estimate]]]
    """Payoff of each agent by the mix of a population: `visitor`, `half`, `resident`, `everybody`
    (`comity.evaluation.tournament.populations`)."""
    comparisons: list[Comparison]
    transcripts: list[Transcript]


class LearningPoint(TypedDict):
    """The responder's payoff in one iteration of its training."""

    iteration: int
    payoff: Estimate


class BestScripted(TypedDict):
    """The scripted opponent that takes most from the victim."""

    name: str
    payoff: Estimate


class ExactResponse(TypedDict):
    """The exact best response to the victim."""

    payoff: float
    description: str


class ExploitSummary(TypedDict):
    """What `write_exploit_page` takes; payoffs are in the game's unit."""

    kind: str
    """"exploit"."""
    title: str
    game: Game
    victim: Player
    responder: Player
    command: NotRequired[str]
    """What starts the same again."""
    versions: NotRequired[dict[str, Any]]
    """Libraries, code revision and machine."""
    learning_curve: list[LearningPoint]
    margin: Estimate
    """The responder's payoff minus the victim's, in the same matches."""
    clean_margin: Estimate | None
    """The same in matches without a forfeit or an illegal answer; None if all are such."""
    responder_payoff: Estimate
    victim_payoff: Estimate
    victim_self_play: Estimate
    fair_play: float | None
    """What each seat gets if both share the best joint payoff equally."""
    best_scripted: BestScripted | None
    exact_best_response: ExactResponse | None
    share_of_best_response: Estimate | None
    """The responder's payoff divided by the exact best response's."""
    verdict: str
    missing_reasons: dict[str, int]
    """Why matches of the evaluation are missing, with how many."""
    outcomes: dict[str, Outcomes]
    """How the answers of language models ended in the evaluation, by player."""
    usage: dict[str, Usage]
    """Of an API victim, training and evaluation together."""
    transcripts: list[Transcript]
