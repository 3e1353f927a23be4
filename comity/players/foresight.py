"""Questions of later rounds, computed in the pass of the first.

Where every question shows the last joint move alone, there are few of them, and one pass over
all costs less than a small one in every round, forward and backward. A question that comes
out otherwise than it was foreseen is computed when it comes.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from comity.engines.scoring import Answers, without_common_start
from comity.engines.session import Choice
from comity.players.base import Ask, temperature

if TYPE_CHECKING:
    from comity.players.conversations import Conversations

FORESEEN = 9
"""Most joint moves whose questions are computed ahead."""


def ahead(table: "Conversations", asks: Sequence[Ask], free: bool = False) -> list[Choice]:
    """What later rounds may ask and be answered; nothing where that was computed already.

    `free`: the answers are sampled, so that nothing of them is told.
    """
    models = table.models
    prompt = models.prompt
    if table.foreseen or not prompt.fresh or prompt.drawn or getattr(prompt, "memory", 1) > 1:
        return []
    if getattr(models.answer, "thinking", 0):  # a thought comes before the answer
        return []
    table.foreseen = True
    choices: dict[tuple[str | None, tuple[int, ...]], Choice] = {}
    # Matches of one game differ in nothing that these questions show.
    alike = {(ask.player.adapter, ask.turn.seat, ask.game): ask for ask in asks}
    for ask in alike.values():
        game, turn = ask.game, ask.turn
        length = getattr(game, "length", None)
        if length is None or length.longest == 1 or len(game.moves) ** game.seats > FORESEEN:
            continue
        labels, common = table.legal(ask), list[int]()
        answers: Answers
        if free:
            answers = tuple(tuple(models.chat.answer(label)) for label in labels)
        else:
            common, answers = without_common_start(models.chat.answer_ids(labels))
        for joint in product(range(len(game.moves)), repeat=game.seats):
            known = replace(turn.observation, history=(), prior=joint)
            later = replace(turn, observation=known)
            text = table.prompt(ask)[0].opening(game, later)
            ids = (*models.opening_ids(text), *common)
            if (ask.player.adapter, ids) not in choices:
                conversation = table.session.conversation(ask.player.adapter)
                conversation.append(ids)
                choice = Choice(conversation, answers, temperature(ask))
                choices[ask.player.adapter, ids] = choice
    return list(choices.values())
