"""Makes a learner from an algorithm's settings: its adapter, its optimizer and its critic."""

from collections.abc import Mapping
from typing import Any

from comity.distributed.process_group import ALONE, ProcessGroup
from comity.engines.local.engine import Engine
from comity.games.randomness import ADAPTER, MINIBATCHES, VALUE_HEAD, generator
from comity.learning.algorithms import Algorithm
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.critic import new_critic
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.microbatch_tokens import MICROBATCH_TOKENS
from comity.learning.optimizer import OptimizerSettings
from comity.learning.ppo.learner import PpoLearner
from comity.learning.ppo.objective import PpoSettings


def make_learner(
    engine: Engine,
    name: str,
    shape: Mapping[str, Any],
    algorithm: Algorithm,
    optimizer: OptimizerSettings,
    updates: int,
    run_seed: int,
    ranks: ProcessGroup = ALONE,
) -> Learner:
    """A new learner under this name, with an adapter of this shape.

    An algorithm with an update of its own has a method `new_learner`, which takes the arguments of
    `Learner` and returns an instance of a subclass.

    `microbatch_tokens=auto` is the default here: what fits is the caller's to find out.

    `shape`: as `Adapters.add` takes it, and "dropout_in" (`comity.config.schema.DROPOUT_IN`).
    `updates`: their total number. The initial weights follow from `run_seed` and `name`.
    `ranks`: the processes that train it together.
    """

    def seed(purpose: str) -> int:
        return int(generator(run_seed, purpose, name).integers(2**31))

    shape, tokens = dict(shape), getattr(algorithm, "microbatch_tokens", None)
    apply_dropout = shape.pop("dropout_in", "learning") != "playing"
    engine.adapters.add(name, **shape, seed=seed(ADAPTER))
    common: dict[str, Any] = {
        "updates": updates,
        "microbatch_tokens": MICROBATCH_TOKENS if tokens == "auto" else tokens,
        "dropout": apply_dropout and shape.get("dropout", 0.0) > 0,
        "ranks": ranks,
    }
    if isinstance(algorithm, PpoSettings):
        more: dict[str, Any] = {
            "ppo": algorithm,
            "seed": seed(VALUE_HEAD),
            "order": seed(MINIBATCHES),
        }
        return PpoLearner(engine, name, optimizer, LossSettings(), **common, **more)
    make = getattr(algorithm, "new_learner", Learner)
    learner: Learner = make(engine, name, optimizer, algorithm.loss(), **common)
    if isinstance(algorithm, Reinforce):
        learner.critic = new_critic(engine, learner, algorithm, shape, seed, **common)
    return learner
