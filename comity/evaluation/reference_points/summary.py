"""The reference points of any game, ready for JSON: what stands beside a tournament's results."""

from typing import Any

from comity.errors import ComityError
from comity.evaluation.moral.reference_policies import split_reference_policies
from comity.evaluation.reference_points.schelling import schelling_diagram
from comity.evaluation.reference_points.stage import stage_reference
from comity.games.base import Game
from comity.games.matrix.iterated import Iterated
from comity.games.split.game import Split


def reference_points(game: Game) -> dict[str, Any]:
    """What is exactly known of a game.

    `stage` (`StageReference`) and, for two moves, `schelling` (`SchellingDiagram`) of a matrix
    game with one payoff table; `split` (expected payoffs of scripted pairs,
    `comity.evaluation.moral.reference_policies`) of a split game. Keys are missing where nothing
    exact is known: a table sampled per match, too many joint moves.
    """
    if isinstance(game, Split):
        return {"split": split_reference_policies(game)}
    if not isinstance(game, Iterated) or game.sample_instance(0) is not game:
        return {}
    found: dict[str, Any] = {}
    for name, make in (("stage", stage_reference), ("schelling", schelling_diagram)):
        try:
            found[name] = make(game.stage).as_dict()  # type: ignore[attr-defined]
        except ComityError:
            continue
    return found
