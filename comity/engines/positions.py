"""How many tokens a model can place: one more is an error, or beyond what it was trained on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comity.errors import ComityError, warn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
"""What configs call it."""
_LEARNED = ("wpe", "position", "pos_emb")
"""Parts of the names that tables of positions have."""


@dataclass(frozen=True)
class Positions:
    """A model's limit."""

    most: int | None
    """Tokens of the longest conversation; None: the config names no limit."""
    learned: bool
    """Each position has a vector of its own, so that there is none after the last. Otherwise
    (rotary positions and the like) the model goes on, though it never saw such distances."""

    def check(self, tokens: int, what: str, advice: str = "") -> None:
        """Raises ComityError where there is no position for the last of so many tokens; warns
        where the model was never trained on so many. `what`: whose they are, with a verb.
        """
        if self.most is None or tokens <= self.most:
            return
        if self.learned:
            raise ComityError(
                f"{what} {tokens} tokens, and the model has {self.most} positions{advice}"
            )
        warn(
            f"{what} {tokens} tokens, and the model was made for {self.most}: beyond them its "
            f"answers mean little{advice}"
        )


def positions(model: "PreTrainedModel") -> Positions:
    """The limit that the model's config names, and whether it can be passed."""
    from torch import nn

    config: Any = model.config.get_text_config()
    named = [getattr(config, key, None) for key in _KEYS]
    most = next((one for one in named if isinstance(one, int) and one > 0), None)
    tables = [
        module.num_embeddings
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and any(part in name.rsplit(".", 1)[-1] for part in _LEARNED)
    ]
    if tables:
        # Some keep a few vectors apart (OPT: two), which the config does not count.
        most = min(tables) if most is None else min(most, *tables)
    return Positions(most, bool(tables))
