"""`comity play`: humans play a game in the terminal, against each other or any other player.

Each finished match is recorded in a run folder below `plays/`, like a training match. Invalid
requests fail before a model is loaded.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from comity.commands.play_setup import MODELS, play_config, trained_seats
from comity.config.schema import Config
from comity.config.seats import HUMAN, check_strategy, is_api, scripted_player
from comity.errors import ComityError, WorkError
from comity.evaluation.metrics import iteration_metrics
from comity.evaluation.moral.reference_policies import split_reference_policies
from comity.evaluation.payoff_ranges import requires_exact_claims
from comity.experiments.api_players import ApiPlayers, check_apis
from comity.files import write_atomically
from comity.games import make_game
from comity.games.base import Game
from comity.games.randomness import ENVIRONMENT, generator
from comity.games.split.game import group_seed
from comity.players.base import Player
from comity.players.human.player import HumanPlayer, NoHumanSeatError, QuitError, Screen
from comity.players.human.terminal import Terminal
from comity.prompts import ANSWERS, PROMPTS
from comity.prompts.base import Prompt
from comity.prompts.outcomes import outcome_text, points_text, totals
from comity.registry import build
from comity.rewards import REWARDS, log_rewards
from comity.rewards.base import BaseReward
from comity.rollout.play import Match, Rollout, play
from comity.rollout.recording import record_rewards
from comity.rollout.records import Conversation, Decision
from comity.runs.folder import REFERENCE_POLICIES, RunFolder

if TYPE_CHECKING:  # Humans and scripted players need no torch.
    from comity.experiments.trained import Trained
    from comity.players.language_model.player import LanguageModelBackend, Policy


@dataclass(frozen=True)
class MatchRules:
    """The rules of a match."""

    game: Game
    prompt: Prompt
    reward: BaseReward
    """Recorded in addition to the payoffs."""


def play_game(
    name: str,
    seats: str,
    overrides: Sequence[str] = (),
    matches: int | None = None,
    seed: int | None = None,
    screen: Screen | None = None,
) -> Path:
    """Play `matches` matches of a game, or of an experiment's, and return the run's folder.

    `seats`: comma-separated players. Raises `QuitError` if a human quits, and
    `NoHumanSeatError` if there is no input; finished matches are recorded in both cases.
    """
    seated = [seat.strip() for seat in seats.split(",")]
    runs = trained_seats(seated)
    config = play_config(name, seated, runs, overrides, matches, seed)
    rules = _checked(config, runs)
    screen = screen or Terminal()
    with ExitStack() as stack:
        answer = build("answer", config.answer, ANSWERS)
        apis = stack.enter_context(ApiPlayers.of(config, rules.prompt, answer))
        players = _players(config, rules, runs, screen, apis, stack)
        # After the checks, so that a refused request leaves no folder behind; before the first
        # match, so that no match is lost because the folder cannot be created.
        run = stack.enter_context(RunFolder.create(config))
        apis.open(run.path)
        return _PlaySession(run, rules, players, screen, _display_names(players, runs), apis).run()


def _checked(config: Config, runs: "Mapping[str, Trained]") -> MatchRules:
    """The rules; `ComityError` for an invalid config. Settings of the training are ignored."""
    game = make_game(config.game)
    prompt = build("prompt", config.prompt, PROMPTS)
    rules = MatchRules(game, prompt, build("reward", config.reward, REWARDS))
    build("answer", config.answer, ANSWERS)
    prompt.labels(game)
    for turn in game.turns(game.start(0)):
        prompt.opening(game, turn)
    rules.reward.check(game)
    if len(config.seats) != game.seats:
        raise ComityError(
            f"the game has {game.seats} seats but --seats names {len(config.seats)} players"
        )
    check_apis(config.seats, config.api)
    for number, seat in enumerate(config.seats):
        if _scripted(seat, runs):
            check_strategy(scripted_player(seat).strategy, game, number)
    return rules


def _scripted(seat: str, runs: "Mapping[str, Trained]") -> bool:
    """Whether the seat is neither a human nor a language model."""
    others = seat == HUMAN or seat in runs or is_api(seat)
    return not others and seat.split(":")[0] not in MODELS


def _players(
    config: Config,
    rules: MatchRules,
    runs: "Mapping[str, Trained]",
    screen: Screen,
    apis: ApiPlayers,
    stack: ExitStack,
) -> tuple[Player, ...]:
    """The player on each seat; `stack` unloads their adapters."""
    people = config.seats.count(HUMAN)
    models: LanguageModelBackend | None = None
    players: list[Player] = []
    seated: dict[str, Player] = {}
    for seat in config.seats:
        if seat == HUMAN:
            number = sum(isinstance(player, HumanPlayer) for player in players) + 1
            called = HUMAN if people == 1 else f"{HUMAN}:{number}"
            players.append(HumanPlayer(called, rules.prompt, screen, shared=people > 1))
            continue
        if seat not in seated and _scripted(seat, runs):
            seated[seat] = scripted_player(seat)
        elif seat not in seated and is_api(seat):
            seated[seat] = apis.player(seat)
        elif seat not in seated:
            if models is None:
                screen.say(f"Loading {config.model.name} ...")
                from comity.experiments.backends import untrained_models

                models = untrained_models(config)
            seated[seat] = _policy(seat, runs.get(seat), models, config.temperature, stack)
        players.append(seated[seat])
    return tuple(players)


def _policy(
    seat: str,
    run: "Trained | None",
    models: "LanguageModelBackend",
    temperature: float,
    stack: ExitStack,
) -> "Policy":
    """The policy of a language model's seat."""
    from comity.players.language_model.player import Policy

    folder = run.adapter if run is not None else Path(seat.partition(":")[2])
    if seat == "base":
        return Policy(seat, models, None, temperature)
    adapters = models.engine.adapters
    handle = f"play:{len(adapters.names)}"  # no learner has a colon in its name
    adapters.load(handle, folder)
    stack.callback(adapters.remove, handle)
    return Policy(seat, models, handle, temperature, int(folder.parent.name) if run else 0)


def _display_names(players: Sequence[Player], runs: "Mapping[str, Trained]") -> list[str]:
    """Names of the seats on the screen: "you", a run's experiment or arm, a player's name."""
    alone = sum(isinstance(player, HumanPlayer) for player in players) == 1
    names = [
        "you"
        if alone and isinstance(player, HumanPlayer)
        else runs[player.name].name
        if player.name in runs
        else player.name
        for player in players
    ]
    return [
        f"{name} (seat {seat})" if names.count(name) > 1 else name
        for seat, name in enumerate(names)
    ]


class _PlaySession:
    """The matches of one command, with their records."""

    def __init__(
        self,
        run: RunFolder,
        rules: MatchRules,
        players: tuple[Player, ...],
        screen: Screen,
        names: Sequence[str],
        apis: ApiPlayers,
    ) -> None:
        self._run, self._rules, self._players, self._screen = run, rules, players, screen
        self._apis = apis
        self._decisions: list[Decision] = []
        self._conversations: list[Conversation] = []
        self._finished: list[tuple[float, ...]] = []
        """Payoffs by match and seat."""
        self._began = time.perf_counter()
        self._engines = {p.backend.engine for p in players if hasattr(p.backend, "engine")}
        self._computed = self._tokens()
        self._names = names
        """Name of each seat on the screen."""

    def run(self) -> Path:
        """Play all matches; returns the run's folder."""
        config, screen = self._run.config, self._screen
        in_prompt = getattr(self._rules.prompt, "names", None) or [""] * len(self._names)
        players = [
            f"{name} ({prompted})" if prompted else name
            for name, prompted in zip(self._names, in_prompt, strict=False)
        ]
        screen.say(f"Players: {', '.join(players)}. Seed {config.seed}.")
        screen.say("Type your answer without tags; help shows the rules again, quit leaves.")
        try:
            for match in self._matches():
                if config.matches > 1:
                    screen.say(f"Match {match.number + 1} of {config.matches}.")
                self._play(match)
        except (QuitError, NoHumanSeatError) as why:
            raise type(why)(f"{why}; {self._recorded()}") from why
        except KeyboardInterrupt as why:
            raise QuitError(f"interrupted; {self._recorded()}") from why
        finally:
            self._close()
        return self._run.path

    def _matches(self) -> Iterator[Match]:
        """The matches, with the environment seeds of a run's first iteration."""
        config = self._run.config
        for number in range(config.matches):
            group = number // config.group_size
            seed = int(generator(config.seed, ENVIRONMENT, 0, group).integers(2**62))
            seed = group_seed(self._rules.game, seed, group)
            yield Match(number, group, seed, self._players, (config.seed, 0, number))

    def _play(self, match: Match) -> None:
        """Play one match, write its records and show its result."""
        rollout = play(self._rules.game, [match], keep=True, allow_missing=True)
        for reason in rollout.missing.values():
            raise WorkError(f"{reason}; {self._recorded()}")
        assert rollout.runner is not None
        game, state = rollout.runner.games[0], rollout.runner.states[0]
        history = game.history(state)
        self._record(rollout)
        self._finished.append(totals(history))
        labels = self._rules.prompt.sample_variant(match.stream).labels(game)
        text = outcome_text(game, history, self._names, labels)
        if len(self._finished) > 1:
            together = [sum(values) for values in zip(*self._finished, strict=True)]
            text += f"\nAll {len(self._finished)} matches: {points_text(self._names, together)}."
        self._screen.show("The match is over", text)

    def _record(self, rollout: Rollout) -> None:
        """Add a match to the records and write them."""
        rewards = log_rewards(rollout.played, self._rules.game, self._rules.reward)
        record_rewards(rollout.decisions, rewards)
        offset = len(self._conversations)
        for decision in rollout.decisions:
            decision.conversation += offset if decision.conversation >= 0 else 0
        for conversation in rollout.conversations:
            conversation.conversation += offset
        self._decisions += rollout.decisions
        self._conversations += rollout.conversations
        self._run.write_conversations(0, self._conversations)
        self._run.write_decisions(0, self._decisions)

    def _tokens(self) -> int:
        """Tokens that the engines have computed so far."""
        return sum(engine.tokens_computed for engine in self._engines)

    def _recorded(self) -> str:
        """Which matches are recorded, in words."""
        if not self._finished:
            return "no match was finished, so nothing is recorded"
        count = len(self._finished)
        finished = "the finished match is" if count == 1 else f"the {count} finished matches are"
        return f"{finished} recorded in {self._run.path}, the unfinished one is not"

    def _close(self) -> None:
        """Write the metrics; remove the folder if no match was finished."""
        run = self._run
        if not self._finished:
            shutil.rmtree(run.path, ignore_errors=True)
            return
        write_atomically(
            run.path / REFERENCE_POLICIES,
            json.dumps(split_reference_policies(self._rules.game)) + "\n",
        )
        run.append_metrics(
            {
                "iteration": 0,
                **iteration_metrics(self._decisions, requires_exact_claims(self._rules.game)),
                **self._apis.metrics(self._decisions),
                "reward": None,
                "phase": 0,
                "rewards": {},
                "tokens_played": self._tokens() - self._computed,
                "seconds": {"total": round(time.perf_counter() - self._began, 3)},
            }
        )
