"""Algorithms by name, with their settings: the `algorithm:` block of a config."""

from collections.abc import Callable

from comity.errors import ComityError
from comity.learning.algorithms.advantage_alignment import AdvantageAlignment
from comity.learning.algorithms.exact import Exact
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.ppo.objective import PpoSettings
from comity.prompts.answers import AnswerFormat

Algorithm = Reinforce | Exact | PpoSettings

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "reinforce": Reinforce,
    "advantage_alignment": AdvantageAlignment,
    "exact": Exact,
    "ppo": PpoSettings,
}
"""Every algorithm by name."""


def check_importance_weights(algorithm: Algorithm) -> None:
    """Raises `ComityError` unless importance weights correct for removed instructions."""
    if isinstance(algorithm, Exact):
        why = "algorithm exact learns nothing from matches"
    elif isinstance(algorithm, PpoSettings):
        why = "the ratios of algorithm ppo begin with the learner's own probabilities"
    elif algorithm.importance_cap is None:
        why = "with algorithm.importance_cap=null nothing is weighted"
    else:
        return
    raise ComityError(
        f"exploration: {why}, so nothing would correct for the instructions; choose reinforce or "
        "advantage_alignment with an importance_cap, or set exploration=[]"
    )


def check_illegal_rewards(algorithm: Algorithm, answer: AnswerFormat) -> None:
    """Raises `ComityError` if leaving illegal answers out would drop their rewards.

    PPO over rounds computes its returns from the trained decisions alone.
    """
    rounds = isinstance(algorithm, PpoSettings) and algorithm.horizon == "rounds"
    if rounds and not answer.train_illegal:
        raise ComityError(
            "answer.train_illegal=false with algorithm ppo would leave out the rewards of illegal "
            "answers, too; set algorithm.horizon=answer, or answer.train_illegal=true"
        )
