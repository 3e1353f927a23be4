"""The training loop: play, compute rewards and advantages, update, checkpoint, report."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from comity.config.schema import Config
from comity.config.seats import is_scripted, learner_of, scripted_player
from comity.errors import WorkError
from comity.evaluation.metrics import iteration_metrics
from comity.evaluation.moral.drawn_payoffs import mean_reference_policies, reward_shares
from comity.evaluation.moral.reference_policies import (
    payoff_range,
    reference_policies,
    same_for_all,
    split_reference_policies,
)
from comity.evaluation.payoff_ranges import requires_exact_claims
from comity.experiments.agent_plans import pinned
from comity.experiments.build import Experiment
from comity.experiments.resume import restore, seed_libraries, write_checkpoint
from comity.experiments.rules import check_training
from comity.files import write_atomically
from comity.games.base import Game
from comity.games.enumerate import Policy
from comity.games.matrix.random_tables import RandomTables
from comity.learning.advantages import StepRewards, estimate_advantages
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.credit.returns import discounted_returns
from comity.learning.critic import predict_values
from comity.learning.state.checkpoints import Checkpoints
from comity.learning.training_batch import training_sequences
from comity.players.scripted.strategies import MatrixStrategy
from comity.rewards import log_rewards
from comity.rewards.base import Reward
from comity.rollout.counterfactuals import counterfactual_returns
from comity.rollout.followups import follow_up
from comity.rollout.play import Match, Rollout, play
from comity.rollout.recording import record_rewards, settles_round
from comity.rollout.records import Conversation, Decision
from comity.runs.folder import REFERENCE_POLICIES, RunFolder
from comity.runs.progress import Progress
from comity.runs.provenance import located, note_made_with
from comity.runs.sinks import SinkError, Sinks


def train(config: Config, resume: Path | None = None, report: bool = True) -> Path:
    """Train one run, or resume one from its folder; returns the folder.

    With `report`, the page is written at the end. Refuses studies: `comity.commands.run`.
    """
    if config.study is not None or config.crossplay is not None:
        raise ValueError("a study or a cross-play is more than one run; use comity.commands.run")
    with ExitStack() as stack:
        run = stack.enter_context(RunFolder.open(resume)) if resume is not None else None
        config = pinned(config) if run is None else run.config
        check_training(config)
        if run is not None:
            config = located(config, run.path)
        experiment = stack.enter_context(Experiment(config))
        if run is None and experiment.opponent_pool is not None:
            experiment.opponent_pool.check_initial_snapshots()
        # After the checks, so that a refused run leaves no folder behind.
        run = run or stack.enter_context(RunFolder.create(config))
        progress = stack.enter_context(Progress())
        try:
            train_run(run, experiment, progress, config.name)
        except SinkError:
            if resume is None:  # A refused run leaves no folder behind.
                shutil.rmtree(run.path, ignore_errors=True)
            raise
    if report:
        from comity.reports import build

        build([run.path])
    return run.path


def train_run(run: RunFolder, experiment: Experiment, progress: Progress, title: str) -> None:
    """Train one run from its last checkpoint (or the start) to its last iteration."""
    config, rules = experiment.config, experiment.rules
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint.keep, progress.warn)
    first = restore(run, experiment.learners, checkpoints)
    note_made_with(run, config, experiment.engine, first)
    if experiment.opponent_pool is not None:
        experiment.opponent_pool.open(run.path, first)
    experiment.api.open(run.path)
    beside = run_reference_policies(experiment) | payoff_range(rules.game)
    write_atomically(run.path / REFERENCE_POLICIES, json.dumps(beside) + "\n")
    with (
        Sinks(config.sinks, run.path, asdict(config)) as sinks,
        progress.task(title, config.iterations, first, experiment.api.describe) as task,
    ):
        for iteration in range(first, config.iterations):
            if experiment.opponent_pool is not None:
                experiment.opponent_pool.begin(iteration)
            seed_libraries(config.seed, iteration)
            phase = rules.phase(iteration)
            if iteration == phase.first > 0:
                for learner in experiment.learners.values():
                    learner.reset(phase.reset)
            began = time.perf_counter()
            computed = experiment.engine.tokens_computed

            matches = experiment.matches(iteration)
            needs_alternatives = getattr(rules.algorithm, "needs_alternatives", False)
            game = experiment.game(iteration)
            rollout = play(game, matches, iteration, task.playing, keep=needs_alternatives)
            tokens_played = experiment.engine.tokens_computed - computed
            # Before the update, because follow-up questions are for the policies that played.
            answers, conversations = follow_ups(rollout, matches, iteration, config)
            played = time.perf_counter()

            rewards = phase.reward(rollout.played, rules.game)
            credit(rollout, rewards, experiment, phase.reward)
            record_rewards(rollout.decisions, log_rewards(rollout.played, rules.game, phase.reward))
            record_normalized_rewards(rollout, rewards, rules.game, phase.reward)
            try:
                learned = update(rollout, experiment, task)
            except WorkError as error:
                raise WorkError(
                    f"{error} in iteration {iteration}; the last valid checkpoint in "
                    f"{run.checkpoints} is kept"
                ) from error
            rollout.release()
            now = time.perf_counter()

            if iteration % config.record.every == 0 or iteration == config.iterations - 1:
                run.write_decisions(iteration, [*rollout.decisions, *answers])
                run.write_conversations(iteration, [*rollout.conversations, *conversations])
            row = {
                "iteration": iteration,
                **iteration_metrics(rollout.decisions, requires_exact_claims(rules.game)),
                "reward": _mean([d.reward for d in payoff_decisions(rollout)]),
                "phase": rules.phases.index(phase),
                "rewards": mean_rewards(rollout),
                **uncorrected_fraction(rollout.decisions),
                **learned,
                "tokens_played": tokens_played,
                **experiment.api.metrics(rollout.decisions, len(rollout.missing)),
                "seconds": {
                    "play": round(played - began, 3),
                    "learn": round(now - played, 3),
                    "total": round(time.perf_counter() - began, 3),
                },
            }
            run.append_metrics(row)
            sinks.log(iteration, row)
            done = iteration + 1
            if done % config.checkpoint.every == 0 or done == config.iterations:
                checkpoints.save(done, partial(write_checkpoint, run, experiment, done))
            task.advance(row)


def follow_ups(
    rollout: Rollout, matches: Sequence[Match], iteration: int, config: Config
) -> tuple[list[Decision], list[Conversation]]:
    """Answers to follow-up questions and their conversations; empty unless due."""
    record, last = config.record, iteration == config.iterations - 1
    due = iteration % (record.every * record.followup_every) == 0 or last
    if not due or not record.followups:
        return [], []
    return follow_up(rollout, matches[: record.followups], record.questions, record.followup_tokens)


def reward_name(block: Mapping[str, Any]) -> str:
    """A reward's name; for a weighted sum the names of its terms."""
    return " + ".join(block["terms"]) if "terms" in block else str(block["name"])


def run_reference_policies(experiment: Experiment) -> dict[str, Any]:
    """The reference policies and values that the page draws beside the run's curves."""
    config, rules = experiment.config, experiment.rules
    if found := split_reference_policies(rules.game):
        return found
    rewards = [
        (phase.first, reward_name(block), phase.reward)
        for phase, block in zip(
            rules.phases, [p.reward for p in config.phases] or [config.reward], strict=True
        )
    ]
    learning = [number for number, one in enumerate(config.seats) if learner_of(one) is not None]
    found = _seat_references(config, rules.game, rewards, learning[0])
    # Seats share their reference values in symmetric games only.
    for seat in learning[1:]:
        if found and not same_for_all(rules.game):
            references = _seat_references(config, rules.game, rewards, seat)
            found.setdefault("by_seat", {})[str(seat)] = references
    return found


def _seat_references(
    config: Config, game: Game, rewards: Sequence[tuple[int, str, Reward]], seat: int
) -> dict[str, Any]:
    """Reference policies and values for a learner on this seat."""
    other = config.seats[1 - seat] if len(config.seats) == 2 else None
    facing: Callable[[Game], Policy] | None = None
    if other is not None and is_scripted(other):
        strategy = scripted_player(other).strategy
        if not isinstance(strategy, MatrixStrategy):
            return {}

        def facing(game: Game) -> Policy:
            return lambda known: strategy.probabilities(known, game)

    if isinstance(game, RandomTables):
        return mean_reference_policies(game, rewards, facing, seat)
    return reference_policies(game, rewards, facing and facing(game), seat)


def credit(
    rollout: Rollout, rewards: np.ndarray, experiment: Experiment, reward: Reward | None = None
) -> None:
    """Set every decision's reward, return and advantage.

    `reward`: the reward of counterfactual branches, if the algorithm uses them; None: the last
    phase's.
    """
    algorithm, alive = experiment.rules.algorithm, rollout.played.alive
    groups = np.arange(alive.shape[0]) // experiment.config.group_size
    steps = algorithm.credit_steps if isinstance(algorithm, Reinforce) else "rounds"
    step_rewards = StepRewards.of(rollout.decisions, rewards, alive, steps)
    if isinstance(algorithm, Reinforce):
        iteration = rollout.decisions[0].iteration if rollout.decisions else 0
        estimates = predict_values(rollout, step_rewards, experiment.learners, algorithm)
        result = estimate_advantages(
            *(step_rewards.rewards, step_rewards.alive, algorithm, groups),
            *(step_rewards.trained, iteration, estimates.values),
            alternatives=alternative_returns(
                rollout, experiment, algorithm, reward or experiment.rules.reward
            ),
        )
        estimates.set_value_targets(result.value_targets)
        returns, credits = result.returns, result.advantages
    else:
        # Exact does not use sampled returns; PPO estimates advantages in its update.
        returns = discounted_returns(step_rewards.rewards, step_rewards.alive, algorithm.discount)
        credits = np.full_like(returns, np.nan)
    first = min((d.match for d in rollout.decisions), default=0)
    for d, place in zip(rollout.decisions, step_rewards.decision_steps, strict=True):
        d.reward = float(rewards[d.match - first, d.seat, d.round])
        d.return_, d.advantage = float(returns[place]), float(credits[place])


def alternative_returns(
    rollout: Rollout, experiment: Experiment, algorithm: Reinforce, reward: Reward
) -> np.ndarray | None:
    """Mean returns of alternatives to the learners' decisions; None without branches."""
    if rollout.runner is None:
        return None
    game = experiment.rules.game
    returns = counterfactual_returns(
        rollout.runner,
        lambda played: reward(played, game),
        algorithm.discount,
        algorithm.alternatives,
        algorithm.branch_depth,
    )
    rollout.release()
    return returns


def record_normalized_rewards(
    rollout: Rollout, rewards: np.ndarray, game: Game, reward: Reward
) -> None:
    """Record the normalized reward of every choice: its position within the reward's range."""
    choices = [d for d in rollout.decisions if d.kind == "choose"]
    seeds = {d.match: d.seed for d in choices}
    matches = sorted(seeds)
    first = min((d.match for d in rollout.decisions), default=0)
    picked = rewards[[match - first for match in matches]]
    shares = reward_shares(reward, game, [seeds[match] for match in matches], picked)
    if shares is not None:
        place = {match: number for number, match in enumerate(matches)}
        for d in choices:
            d.normalized_reward = float(shares[place[d.match], d.seat, d.round])


def update(rollout: Rollout, experiment: Experiment, task: Any) -> dict[str, Any]:
    """Update every learner; returns metrics, averaged over learners."""
    task.learning()
    if experiment.exact is not None:
        rows = experiment.exact.update(experiment.learners)
    else:
        rows = [
            learner.update(
                training_sequences(rollout, name, experiment.config.temperature), rollout.recording
            )
            for name, learner in experiment.learners.items()
        ]
        for learner in experiment.learners.values():
            for source, advantage in learner.mean_advantages.items():
                rollout.decisions[source].advantage = advantage
    if len(rows) <= 1:
        return rows[0] if rows else {}
    keys = dict.fromkeys(key for row in rows for key in row)
    totals = ("decisions", "tokens_learned", "steps", "steps_skipped")
    together: dict[str, Any] = {}
    for key in keys:
        values = [row[key] for row in rows if row.get(key) is not None]
        together[key] = (
            (sum(values) if key in totals else float(np.mean(values))) if values else None
        )
    together["learners"] = dict(zip(experiment.learners, rows, strict=True))
    return together


def uncorrected_fraction(decisions: Sequence[Decision]) -> dict[str, float]:
    """`uncorrected`, if answer attempts failed; else empty.

    The fraction of trained decisions that were accepted after failed attempts that are not trained
    on. They are trained on with the probability of a first attempt, without a correction for
    rejection sampling; `answer.train_attempts` corrects for it.
    """
    learned = [d for d in decisions if d.trained]
    failed = [d for d in decisions if d.kind == "attempt" and d.controller == "live"]
    if not learned or not failed:
        return {}
    corrected = any(d.trained for d in failed)
    return {"uncorrected": 0.0 if corrected else float(np.mean([d.attempts > 1 for d in learned]))}


def mean_rewards(rollout: Rollout) -> dict[str, float | None]:
    """Mean of every recorded reward over the learners' `payoff_decisions`."""
    found = payoff_decisions(rollout)
    names = found[0].rewards if found else ()
    return {name: _mean([d.rewards[name] for d in found]) for name in names}


def payoff_decisions(rollout: Rollout) -> list[Decision]:
    """The learners' decisions that determine a round's payoffs: no messages, thoughts, attempts.

    Includes those that are not trained on (`answer.train_illegal`).
    """
    live = [d for d in rollout.decisions if d.controller == "live"]
    return [d for d in live if settles_round(d)]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
