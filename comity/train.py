"""The training loop: play, compute rewards and advantages, update, checkpoint, report."""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from comity.config.schema import Config
from comity.config.yaml_files import to_yaml
from comity.distributed.joining import bind_device, check_agreement, joined
from comity.distributed.process_group import LostRankError, ProcessGroup
from comity.errors import WorkError
from comity.evaluation.metrics import iteration_metrics
from comity.evaluation.moral.drawn_payoffs import reward_shares
from comity.evaluation.payoff_ranges import requires_exact_claims
from comity.experiments.agent_plans import pinned
from comity.experiments.build import Experiment
from comity.experiments.resume import seed_libraries
from comity.experiments.rules import check_ranks, check_training
from comity.experiments.run_writer import RunWriter
from comity.experiments.text_engines import with_servers
from comity.games.base import Game
from comity.learning.advantages import StepRewards, estimate_advantages
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.credit.returns import discounted_returns
from comity.learning.critic import predict_values
from comity.learning.training_batch import training_sequences
from comity.rewards import log_rewards
from comity.rewards.base import Reward
from comity.rollout.counterfactuals import counterfactual_returns
from comity.rollout.followups import follow_up
from comity.rollout.play import Match, Rollout, play
from comity.rollout.recording import record_rewards, settles_round
from comity.rollout.records import Conversation, Decision
from comity.rollout.sharing import gather_rollout, share_matches, stack_matches
from comity.runs.folder import RunFolder, stored_config
from comity.runs.progress import Progress
from comity.runs.provenance import located
from comity.runs.sinks import SinkError


def train(config: Config, resume: Path | None = None, report: bool = True) -> Path:
    """Train one run, or resume one from its folder; returns the folder.

    With `report`, the page is written at the end. Refuses studies: `comity.commands.run`. Ranks
    that torchrun or srun started train it together; the first one writes (`comity.distributed`).
    """
    if config.study is not None or config.crossplay is not None:
        raise ValueError("a study or a cross-play is more than one run; use comity.commands.run")
    with ExitStack() as stack:
        ranks = stack.enter_context(joined())
        run: RunFolder | None = None
        with ranks.together():
            if resume is None:
                config = pinned(config)
            elif ranks.first:
                run = stack.enter_context(RunFolder.open(resume))
                config = run.config
            else:
                config = stored_config(resume)
            check_training(config)
            check_ranks(config, ranks)
            if resume is not None:
                config = located(config, resume)
            bind_device(config.model.device, ranks)
        check_agreement(to_yaml(config), config.model.device, ranks)
        with ranks.together():
            experiment = stack.enter_context(Experiment(config, ranks))
            if resume is None and experiment.opponent_pool is not None:
                experiment.opponent_pool.check_initial_snapshots()
            # After the checks, so that a refused run leaves no folder behind.
            if resume is None and ranks.first:
                run = stack.enter_context(RunFolder.create(config))
        ranks.use_device(experiment.engine.device)
        folder: Path = ranks.broadcast(run.path if run is not None else Path())
        progress = stack.enter_context(Progress())
        try:
            train_run(run, experiment, progress, config.name)
        except SinkError:
            if resume is None and ranks.first:  # A refused run leaves no folder behind.
                shutil.rmtree(folder, ignore_errors=True)
            raise
        except LostRankError as error:
            error.args = (f"{error}; continue with: {RunFolder.resuming(folder)}",)
            raise
        if report and ranks.first:
            from comity.reports import build

            build([folder])
    return folder


def train_run(
    run: RunFolder | None, experiment: Experiment, progress: Progress, title: str
) -> None:
    """Train one run from its last checkpoint (or the start) to its last iteration.

    `run`: None on all ranks but the first.
    """
    config, rules, ranks = experiment.config, experiment.rules, experiment.ranks
    with (
        RunWriter(run, experiment, progress) as writer,
        progress.task(title, config.iterations, writer.first, experiment.api.describe) as task,
    ):
        for iteration in range(writer.first, config.iterations):
            if experiment.opponent_pool is not None:
                experiment.opponent_pool.begin(iteration)
            seed_libraries(config.seed, iteration, ranks.rank)
            phase = rules.phase(iteration)
            if iteration == phase.first > 0:
                for learner in experiment.learners.values():
                    learner.reset(phase.reset)
            began = time.perf_counter()
            computed = experiment.engine.tokens_computed
            served = experiment.engine.served.copy()

            matches = experiment.matches(iteration)
            own = share_matches(len(matches), config.group_size, ranks)
            needs_alternatives = getattr(rules.algorithm, "needs_alternatives", False)
            game = experiment.game(iteration)
            mine = matches[own.start : own.stop]
            rollout = with_servers(
                ranks,
                partial(play, game, mine, iteration, task.playing, keep=needs_alternatives),
                matches,
            )
            rollout = gather_rollout(rollout, ranks)
            tokens_played = ranks.total(experiment.engine.tokens_computed - computed)
            served = sum(ranks.gather(experiment.engine.served - served), Counter())
            # Before the update, because follow-up questions are for the policies that played.
            answers, conversations = follow_ups(rollout, matches, iteration, config, ranks)
            played = time.perf_counter()

            rewards = phase.reward(rollout.played, rules.game)
            credit(rollout, rewards, experiment, phase.reward)
            record_rewards(rollout.decisions, log_rewards(rollout.played, rules.game, phase.reward))
            record_normalized_rewards(rollout, rewards, rules.game, phase.reward)
            try:
                learned = update(rollout, experiment, task)
            except LostRankError:
                raise
            except WorkError as error:
                where = "" if run is None else f" in {run.checkpoints}"
                failure = WorkError(
                    f"{error} in iteration {iteration}; the last valid checkpoint{where} is kept"
                )
                failure.shared = ranks.size > 1
                raise failure from error
            rollout.release()
            now = time.perf_counter()

            row = {
                "iteration": iteration,
                **iteration_metrics(rollout.decisions, requires_exact_claims(rules.game)),
                "reward": _mean([d.reward for d in payoff_decisions(rollout)]),
                "phase": rules.phases.index(phase),
                "rewards": mean_rewards(rollout),
                **uncorrected_fraction(rollout.decisions),
                **learned,
                "tokens_played": tokens_played,
                **({"served": dict(served)} if served else {}),
                **experiment.api.metrics(rollout.decisions, len(rollout.missing)),
                **ranks.metrics(),
                "seconds": {
                    "play": round(played - began, 3),
                    "learn": round(now - played, 3),
                    "total": round(time.perf_counter() - began, 3),
                },
            }
            writer.record(
                [*rollout.decisions, *answers], [*rollout.conversations, *conversations], row
            )
            writer.save(iteration + 1)
            task.advance(row)


def follow_ups(
    rollout: Rollout,
    matches: Sequence[Match],
    iteration: int,
    config: Config,
    ranks: ProcessGroup,
) -> tuple[list[Decision], list[Conversation]]:
    """Answers to follow-up questions and their conversations; empty unless due.

    Of several ranks the first one asks.
    """
    record, last = config.record, iteration == config.iterations - 1
    due = iteration % (record.every * record.followup_every) == 0 or last
    if not due or not record.followups:
        return [], []
    asked = matches[: record.followups] if ranks.first else []
    return with_servers(
        ranks, partial(follow_up, rollout, asked, record.questions, record.followup_tokens)
    )


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
    returns = with_servers(
        experiment.ranks,
        partial(
            counterfactual_returns,
            rollout.runner,
            lambda played: reward(played, game),
            algorithm.discount,
            algorithm.alternatives,
            algorithm.branch_depth,
        ),
    )
    rollout.release()
    parts = experiment.ranks.gather(returns)
    return stack_matches(parts, np.nan)


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
