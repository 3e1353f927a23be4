"""A model's context limit: more tokens are an error, or beyond its training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comity.errors import ComityError, warn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
"""Names of the limit in configs."""
_LEARNED = ("wpe", "position", "pos_emb")
"""Parts of the names of learned position embeddings."""

_NOT_TEXT = ("vision", "visual", "image", "audio", "speech")
"""Parts of the names of non-text encoders (Gemma-3's image encoder has positions, too)."""


@dataclass(frozen=True)
class ContextLimit:
    """A model's context limit."""

    max_tokens: int | None
    """Tokens of the longest conversation; None: the config names no limit."""
    is_hard: bool
    """Whether more tokens are impossible: position embeddings are learned, or rotary positions
    are rescaled beyond the limit, which invalidates the KV cache. Otherwise (plain rotary
    positions and the like) the model extrapolates beyond its training."""

    def check(self, tokens: int, what: str, advice: str = "") -> None:
        """Raises ComityError for more tokens than a hard limit; warns for more than a soft one.

        `what`: the beginning of the message, a subject and a verb.
        """
        if self.max_tokens is None or tokens <= self.max_tokens:
            return
        if self.is_hard:
            raise ComityError(
                f"{what} {tokens} tokens, and the model has {self.max_tokens} positions{advice}"
            )
        warn(
            f"{what} {tokens} tokens, and the model was made for {self.max_tokens}: beyond them "
            f"its answers mean little{advice}"
        )


def context_limit(model: "PreTrainedModel") -> ContextLimit:
    """The limit of the model's config, and whether it is hard."""
    from torch import nn

    config: Any = model.config.get_text_config()
    named = [getattr(config, key, None) for key in _KEYS]
    max_tokens = next((one for one in named if isinstance(one, int) and one > 0), None)
    tables = [
        module.num_embeddings
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and any(part in name.rsplit(".", 1)[-1] for part in _LEARNED)
        and not any(part in name for part in _NOT_TEXT)
    ]
    if tables:
        # Some reserve a few embeddings (OPT: two), which the config does not count.
        max_tokens = min(tables) if max_tokens is None else min(max_tokens, *tables)
    rope_limits = _dynamic_rope_limits(model)
    if rope_limits:
        max_tokens = min(rope_limits) if max_tokens is None else min(max_tokens, *rope_limits)
    return ContextLimit(max_tokens, bool(tables or rope_limits))


def _dynamic_rope_limits(model: "PreTrainedModel") -> list[int]:
    """Most tokens for which dynamic rotary positions do not depend on the sequence length.

    Beyond, the types "dynamic" and "longrope" rescale all positions, including those of cached
    keys, by the longest sequence of a pass.
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
