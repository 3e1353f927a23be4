"""Plans `comity evaluate generalization` from its options and the trained policies.

- `Options`: the command line's options.
- `make_plan`: games, labels, prompts and opponents of the evaluation.
- `make_subjects`: base models and trained policies, each under its training conditions.
- `conditions`: training and evaluation conditions of every policy, for the page.
- `rewards`: the evaluation rewards.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from comity.config.schema import Config
from comity.errors import ComityError, lookup
from comity.evaluation.generalization.plan import BASE, RANDOM, Plan, QuestionConditions, Subject
from comity.evaluation.generalization.questions import (
    FRAMINGS,
    LABEL_SETS,
    LAYOUTS,
    OFF_TASK,
    ORDERS,
    RANDOM_LABELS,
    cell_prompts,
    fitting,
)
from comity.evaluation.moral.metrics import payoff_table
from comity.evaluation.moral.published_protocol import EPISODES, ROUNDS, SEED
from comity.experiments.trained import Trained
from comity.games import GAMES as ALL_GAMES
from comity.games import make_game
from comity.games.base import Game
from comity.games.matrix.stages import OUTCOMES
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.prompts import PROMPTS
from comity.prompts.base import Prompt
from comity.prompts.labels import LABEL_SETS as ALL_LABELS
from comity.registry import build
from comity.rewards import REWARDS, all_rewards
from comity.rewards.base import Reward

DILEMMA = "prisoners_dilemma_4310"
GAMES = (
    DILEMMA,
    "stag_hunt",
    "chicken",
    "bach_or_stravinsky",
    "defective_coordination",
    "volunteers_dilemma",
)
"""The games of the moral-alignment study."""
QUICK_GAMES = (DILEMMA, "stag_hunt", "defective_coordination")
SEEDS = (SEED, 101, 102)
"""Evaluation seeds: the published one, and two more."""
EVALUATION_REWARDS = ("own", "utilitarian", "deontological", "own_deontological")
"""Rewards under which every policy is evaluated."""


@dataclass(frozen=True)
class Options:
    """Options of the evaluation; empty ones have the defaults."""

    quick: bool = False
    games: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    """Custom games, `NAME=CC,CD,DC,DD` (own payoffs) or eight numbers (own, other's)."""
    seeds: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    opponents: tuple[str, ...] = ()
    framings: tuple[str, ...] = ()
    """Additional framings of the dilemma in sampled play."""
    goal: str | None = None
    temperature: float | None = None
    penalty: float | None = None
    """Of the deontological rewards; None: as in training."""
    both_seats: bool = False

    @property
    def extent(self) -> str:
        """quick, chosen or full; a full evaluation is not overwritten by the others.

        A full one covers at least all defaults, under the training conditions.
        """
        if self.quick:
            return "quick"
        selected = self.games or self.tables or self.seeds or self.labels or self.layouts
        changed = (self.goal, self.temperature, self.penalty)
        return "chosen" if selected or any(one is not None for one in changed) else "full"

    @property
    def command(self) -> str:
        """The options as command-line arguments."""
        lists = {
            "games": self.games, "seeds": self.seeds, "labels": self.labels,
            "layouts": self.layouts, "opponents": self.opponents, "framings": self.framings,
        }  # fmt: skip
        words = ["--quick"] if self.quick else []
        for name, given in lists.items():
            words += [f"--{name}", ",".join(map(str, given))] if given else []
        for table in self.tables:
            words += ["--table", table]
        for name in ("goal", "temperature", "penalty"):
            value = getattr(self, name)
            words += [f"--{name}", str(value)] if value is not None else []
        words += ["--seats", "both"] if self.both_seats else []
        return shlex.join(words)


def make_plan(options: Options = Options(), policies: Sequence[Trained] = ()) -> Plan:
    """The games, labels, prompts and opponents; `ComityError` for unknown ones."""
    for label in options.labels:
        lookup("set of labels", label, {**ALL_LABELS, **RANDOM_LABELS})
    for layout in options.layouts:
        lookup("layout", layout, dict.fromkeys(LAYOUTS))
    for framing in options.framings:
        lookup("framing", framing, dict.fromkeys((*FRAMINGS[1:], *OFF_TASK)))
    for opponent in options.opponents:
        lookup("opponent", opponent, MATRIX_STRATEGIES)
    quick = options.quick
    chosen = dict.fromkeys(options.games) or ({} if options.tables else dict.fromkeys(GAMES))
    if quick and not options.games and not options.tables:
        chosen = dict.fromkeys(QUICK_GAMES)
    games = {name: _game(name) for name in chosen}
    for name, game in map(_own_table, options.tables):
        if name in games:
            raise ComityError(f"--table: two games are called {name!r}; give yours another name")
        games[name] = game
    dilemma = DILEMMA if DILEMMA in games else next(iter(games))
    for framing in options.framings:
        if framing in FRAMINGS and framing not in fitting(games[dilemma]):
            raise ComityError(f"framing {framing} contradicts the payoffs of {dilemma}")
    labels = tuple(dict.fromkeys(options.labels))
    prompts = trained_prompts(policies)
    return Plan(
        games=games,
        dilemma=dilemma,
        # Swapping action1 and action2 separates a learned move from a learned label.
        label_sets=labels or (LABEL_SETS[:3] if quick else LABEL_SETS),
        layouts=tuple(dict.fromkeys(options.layouts)) or (LAYOUTS[:1] if quick else LAYOUTS),
        orders=ORDERS[:1] if quick else ORDERS,
        play_seeds=tuple(dict.fromkeys(options.seeds)) or (SEEDS[:1] if quick else SEEDS),
        episodes=EPISODES,
        rounds=ROUNDS,
        prompt=cell_prompts(prompts),
        play_labels=labels[0] if labels else LABEL_SETS[0],
        prompts=prompts,
        trained_on=_trained_on(games, policies),
        opponents={
            name: build("player", name, MATRIX_STRATEGIES)
            for name in options.opponents
            if name != RANDOM  # Always included, as published.
        },
        play_framings=tuple(dict.fromkeys(options.framings)),
    )


def _game(name: str) -> Game:
    """A game of `comity list games` with two seats and two moves."""
    lookup("game of the evaluation", name, ALL_GAMES)
    try:
        game = make_game({"name": name})
        payoff_table(game)
    except ComityError as error:
        raise ComityError(
            f"game {name}: {error}; choose a game with two seats and two moves, or define one "
            "with --table"
        ) from error
    return game.sample_instance(0)


def _own_table(text: str) -> tuple[str, Game]:
    """A game from `NAME=CC,CD,DC,DD`, or from eight numbers (own, other's) in that order."""
    name, _, numbers = text.partition("=")
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if not name.strip() or len(values) not in (4, 8):
        raise ComityError(
            f"--table {text!r}: write NAME=CC,CD,DC,DD with the own payoff in each outcome "
            "(mine=3,0,5,1), or eight numbers, own and other's in each"
        )
    if len(values) == 4:
        payoff = dict(zip(OUTCOMES, values, strict=True))
        values = [payoff[one] for both in OUTCOMES for one in (both, both[::-1])]
    cells = [values[2 * i : 2 * i + 2] for i in range(4)]
    block = {"moves": ["cooperate", "defect"], "payoffs": [cells[:2], cells[2:]], "title": name}
    return name.strip(), make_game({"name": "matrix", **block})


def trained_prompts(policies: Sequence[Trained]) -> dict[str, Prompt]:
    """The distinct training prompts by name."""
    names = _prompt_names(policies)
    blocks = {names[_identity(p.config.prompt)]: p.config.prompt for p in policies}
    return {name: build("prompt", block, PROMPTS) for name, block in blocks.items()}


def _prompt_names(policies: Sequence[Trained]) -> dict[str, str]:
    """The name of each distinct prompt block, numbered if several share it."""
    blocks = {_identity(p.config.prompt): str(p.config.prompt["name"]) for p in policies}
    names = list(blocks.values())
    return {
        block: name if names.count(name) == 1 else f"{name} {1 + names[:number].count(name)}"
        for number, (block, name) in enumerate(blocks.items())
    }


def _identity(block: Mapping[str, Any]) -> str:
    """A key that is equal for equal config blocks."""
    return json.dumps(block, sort_keys=True, default=str)


def _trained_on(games: Mapping[str, Game], policies: Sequence[Trained]) -> dict[str, Game]:
    """The training games not in `games` that have two seats and two moves."""
    found: dict[str, Game] = {}
    for policy in policies:
        game: Any = make_game(policy.config.game).sample_instance(0)
        try:
            payoff_table(game)
        except ComityError:
            continue
        known = [*games.values(), *found.values()]
        if all(getattr(one, "stage", None) != game.stage or game.noise for one in known):
            found.setdefault(f"{policy.config.game['name']} (training)", game)
    return found


def make_subjects(plan: Plan, policies: Sequence[Trained], options: Options) -> list[Subject]:
    """The base models, then the trained policies in order; `Unanswered` answers for all of them.

    There is one base model for each distinct set of conditions: those of training, with the
    changes in `options`.
    """
    prompts = _prompt_names(policies)
    asked = [_asked(p.config, prompts[_identity(p.config.prompt)], options) for p in policies]
    bases = _base_names(list(dict.fromkeys(asked)))
    found = [Subject(name, Unanswered(), None, 0, one, name) for one, name in bases.items()]
    for policy, one in zip(policies, asked, strict=True):
        subject = Subject(policy.name, Unanswered(), policy.seed, policy.seat, one, bases[one])
        found.append(subject)
        if options.both_seats:
            other = replace(subject, name=policy.name + OTHER_SEAT, seat=1 - policy.seat)
            found.append(other)
    return found


OTHER_SEAT = ", other seat"
"""Suffix of a policy's name when evaluated on the seat that it was not trained on."""


def trained_name(subject: Subject) -> str:
    """The name of the policy, whichever seat it is evaluated on."""
    return subject.name.removesuffix(OTHER_SEAT)


def _asked(config: Config, prompt: str, options: Options) -> QuestionConditions:
    """The evaluation conditions of a policy: those of training, with the changes in `options`."""
    block = config.prompt
    goal = str(block.get("goal", "selfish"))
    if goal == "own":  # The other prompts' name for it.
        goal = "selfish"
    return QuestionConditions(
        goal=goal if options.goal is None else options.goal,
        persona=block.get("persona"),
        temperature=config.temperature if options.temperature is None else options.temperature,
        system=config.model.system,
        prompt=prompt,
    )


def _base_names(ways: Sequence[QuestionConditions]) -> dict[QuestionConditions, str]:
    """The base model's name under each set of conditions, with the conditions that differ."""
    differing = [
        key
        for key in QuestionConditions.__dataclass_fields__
        if len({getattr(way, key) for way in ways}) > 1
    ]

    def named(way: QuestionConditions) -> str:
        parts = [
            f"no {key}" if getattr(way, key) is None else f"{key} {getattr(way, key)}"
            for key in differing
        ]
        return f"{BASE} ({', '.join(parts)})" if parts else BASE

    return {way: named(way) for way in ways}


def conditions(
    plan: Plan, subjects: Sequence[Subject], policies: Sequence[Trained]
) -> dict[str, Any]:
    """Training and evaluation conditions by policy; JSON-ready."""
    found: dict[str, Any] = {}
    for subject in subjects:
        mine = [p for p in policies if p.name == trained_name(subject)]
        config = mine[0].config if mine else None
        found[subject.name] = {
            "trained on": None if config is None else config.game["name"],
            "rewards": [] if config is None else reward_blocks(config),
            "prompt": None if config is None else config.prompt,
            "seat": None if config is None else subject.seat,
            "seat_assignment": None if config is None else config.seat_assignment,
            "goal": subject.conditions.goal,
            "persona": subject.conditions.persona,
            "temperature": subject.conditions.temperature,
            "system": subject.conditions.system,
            "seeds": [p.seed for p in mine],
            "checkpoints": [p.iteration for p in mine],
            "iterations": None if config is None else config.iterations,
            "compared with": subject.base,
        }
    return found


def reward_blocks(config: Config) -> list[dict[str, Any]]:
    """The rewards of a policy's training phases; it is evaluated under the last."""
    return [phase.reward for phase in config.phases] or [config.reward]


def rewards(config: Config, penalty: float | None = None) -> dict[str, Reward]:
    """The evaluation rewards of a policy: `EVALUATION_REWARDS`, and its training reward.

    They have the training reward's parameters, except the deontological ones' `penalty` if given.
    The training reward is added under its own name unless it is one of `EVALUATION_REWARDS`.
    """
    block = reward_blocks(config)[-1]
    trained = build("reward", block, REWARDS)
    known = all_rewards(trained)
    name = str(block["name"])
    if penalty is not None:
        other = replace(known["deontological"], penalty=penalty)  # type: ignore[call-arg]
        duty = all_rewards(other)
        known |= {one: duty[one] for one in ("deontological", "own_deontological")}
    found: dict[str, Reward] = {one: known[one] for one in EVALUATION_REWARDS}
    if name not in found and trained not in found.values():
        found[name] = trained
    return found


class Unanswered:
    """A placeholder policy, to check that all questions can be rendered."""

    def answer_probabilities(self, questions: Sequence[Any]) -> Any:
        raise NotImplementedError

    def sample_answers(self, questions: Sequence[Any], streams: Sequence[Any]) -> list[str]:
        raise NotImplementedError
