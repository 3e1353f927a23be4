"""The setting `microbatch_tokens`: how many distinct tokens an update keeps in memory at a time."""

from comity.errors import ComityError

MICROBATCH_TOKENS = 2048
"""The default."""
AUTO = {
    "cpu": (2048, 1024, 512, 256),
    "cuda": (65_536, 32_768, 16_384, 8192, 4096, 2048, 1024, 512),
}
"""Numbers that `auto` chooses from, by device. Large ones are for GPUs, whose time for a small pass
goes into launching it."""


def check_microbatch_tokens(tokens: int | str, normalization: str = "decisions") -> None:
    """Raises `ComityError` for a number below 1, and for `auto` where the result depends on it."""
    if isinstance(tokens, int) and tokens < 1:
        raise ComityError(f"microbatch_tokens must be at least 1, or auto, not {tokens}")
    if tokens == "auto" and normalization == "minibatch":
        raise ComityError(
            "microbatch_tokens=auto: with normalization=minibatch the gradient depends on the "
            "micro-batches, and so on the machine; set a number"
        )
