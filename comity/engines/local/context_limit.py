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

_NOT_TEXT = ("vision", "visual", "image", "audio", "speech")
"""Parts of the names of towers that read other things (Gemma-3's pictures have places, too)."""


@dataclass(frozen=True)
class Positions:
    """A model's limit."""

    most: int | None
    """Tokens of the longest conversation; None: the config names no limit."""
    learned: bool
    """Each position has a vector of its own, so that there is none after the last; or all are
    turned anew beyond it, which no cache allows. Otherwise (rotary positions and the like) the
    model goes on, though it never saw such distances."""

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
        and not any(part in name for part in _NOT_TEXT)
    ]
    if tables:
        # Some keep a few vectors apart (OPT: two), which the config does not count.
        most = min(tables) if most is None else min(most, *tables)
    turned = _turned(model)
    if turned:
        most = min(turned) if most is None else min(most, *turned)
    return Positions(most, bool(tables or turned))


def _turned(model: "PreTrainedModel") -> list[int]:
    """Up to how many tokens rotary positions do not depend on the longest conversation.

    Beyond, those of the kinds "dynamic" and "longrope" change for all tokens, also for those
    whose keys are cached, and by the longest sequence of a pass.
    """
    found = []
    for module in model.modules():
        kinds, config = getattr(module, "rope_type", None), getattr(module, "config", None)
        if kinds is None or config is None:
            continue
        for layers, kind in kinds.items() if isinstance(kinds, dict) else ((None, kinds),):
            rope = config.rope_parameters if layers is None else config.rope_parameters[layers]
            if kind == "dynamic":
                found.append(int(config.max_position_embeddings))
            elif kind == "longrope":
                found.append(int(rope["original_max_position_embeddings"]))
    return found
