"""Options of vLLM's command line that a user may not give, because Comity sets them or needs them
as they are.
"""

from collections.abc import Sequence

from comity.errors import ComityError

_ADDRESS = (
    "the server listens on a free port of this machine, for this run alone; to choose, start it "
    "yourself and set engine.url"
)
_ADAPTERS = "adapters follow from adapter.rank and from the seats"
_TOKENIZER = "the tokenizer is that of model.name"
_MODEL = "the served model is model.name"
_SAMPLING = "each request says how it is sampled, by temperature and by its own seed"
_PROBABILITIES = "Comity needs the log-probabilities of the distribution that was sampled from"
_GRAMMARS = "grammars are matched by llguidance, as in this process"
TAKEN = {
    "model": f"{_MODEL}; set that",
    "served-model-name": _MODEL,
    "revision": _MODEL,
    "code-revision": _MODEL,
    "hf-config-path": _MODEL,
    "hf-overrides": _MODEL,
    "dtype": "set model.dtype",
    "host": _ADDRESS,
    "port": _ADDRESS,
    "uds": _ADDRESS,
    "root-path": _ADDRESS,
    "api-key": _ADDRESS,
    "ssl-keyfile": _ADDRESS,
    "ssl-certfile": _ADDRESS,
    "ssl-ca-certs": _ADDRESS,
    "headless": _ADDRESS,
    "enable-lora": _ADAPTERS,
    "no-enable-lora": _ADAPTERS,
    "max-loras": _ADAPTERS,
    "max-cpu-loras": _ADAPTERS,
    "max-lora-rank": f"{_ADAPTERS}; set adapter.rank",
    "lora-modules": _ADAPTERS,
    "lora-target-modules": "set adapter.targets",
    "logprobs-mode": _PROBABILITIES,
    "generation-config": _SAMPLING,
    "override-generation-config": _SAMPLING,
    "seed": f"{_SAMPLING}; set seed",
    "structured-outputs-config": _GRAMMARS,
    "guided-decoding-backend": _GRAMMARS,
    "tokenizer": _TOKENIZER,
    "tokenizer-mode": _TOKENIZER,
    "tokenizer-revision": _TOKENIZER,
    "skip-tokenizer-init": _TOKENIZER,
    "config": "write the options of that file into engine.options",
}
"""What to do instead of each."""


def check_options(options: Sequence[str]) -> None:
    """Raises `ComityError` for options in `TAKEN`, in any spelling that vLLM understands.

    Those are `--max-lora-rank 8`, `--max_lora_rank=8`, `--structured-outputs-config.backend x`,
    and unambiguous beginnings (`--max-lora-r 8`).
    """
    if options and not options[0].startswith("-"):
        raise ComityError(
            f"engine.options: {options[0]!r} is no option; vLLM's begin with --, and each value is "
            'an entry of its own ([--max-model-len, "4096"])'
        )
    for option in options:
        if not option.startswith("--"):
            continue
        name = option[2:].partition("=")[0].partition(".")[0].replace("_", "-")
        taken = name if name in TAKEN else next((one for one in TAKEN if one.startswith(name)), "")
        if taken and name:
            raise ComityError(f"engine.options: leave out --{taken}; {TAKEN[taken]}")
