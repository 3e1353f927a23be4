"""The config of the base model and of the engine that samples its text."""

from dataclasses import dataclass, field
from typing import Any

from comity.config.limits import limited
from comity.errors import ComityError, lookup

ACTIVATION_CHECKPOINTING = {
    "auto": "if what an update keeps otherwise is predicted not to fit into the free memory",
    "always": "in every update",
    "never": "in none",
}
"""When the activations of an update are computed again instead of kept."""

SHARDING = {
    "none": "every rank has all of it",
    "fsdp2": "its transformer blocks are divided among the ranks (PyTorch's FSDP2)",
}
"""Where the base model's weights are when several ranks train."""


@dataclass
class ModelConfig:
    """The base language model, shared by all language-model players."""

    name: str = "smollm2-135m"
    """A model of `comity list models`, a local folder or a Hugging Face id."""
    dtype: str = "auto"
    """float32, bfloat16, or auto: the fastest on this device."""
    device: str = "auto"
    """A torch device (cpu, cuda, cuda:1), or auto: the first GPU if there is one."""
    threads: int | None = limited(None, at_least=1, at_most=1024)
    """CPU threads; null: torch's default."""
    system: str | None = None
    """System prompt; null: the chat template's default."""
    quantization: str | None = None
    """nf4: base weights in 4 bits (bitsandbytes, needs CUDA); null: no quantization."""
    deterministic: bool = False
    """On CUDA: the same numbers bit for bit in every run and after a resume, at some cost."""
    activation_checkpointing: str = "auto"
    """Keep only the inputs of transformer blocks in an update, and compute the blocks twice: one of
    `ACTIVATION_CHECKPOINTING`. Gradients are the same."""
    sharding: str = "none"
    """The base model's weights on several ranks, one of `SHARDING`. One process has all of it."""

    def __post_init__(self) -> None:
        lookup(
            "model.activation_checkpointing",
            self.activation_checkpointing,
            ACTIVATION_CHECKPOINTING,
        )
        lookup("model.sharding", self.sharding, SHARDING)


ENGINES = {
    "local": "in this process",
    "vllm": "by a vLLM server; learning stays in this process, scored answers too unless "
    "engine.scored=vllm",
}
"""Where text is sampled."""
DECODING = {
    "auto": "graphs on CUDA, packed elsewhere",
    "packed": "passes of any shape",
    "static": "passes of one shape, with windows of keys and values",
    "graphs": "static, recorded once as a CUDA graph and replayed",
}
"""How the local engine samples text token by token."""
SCORED = {
    "local": "in this process",
    "vllm": "by the vLLM server of engine=vllm",
}
"""Where answers from a list of legal ones are scored."""


@dataclass
class EngineConfig:
    """What samples text: this process, or a vLLM server beside it."""

    name: str = "local"
    """One of `ENGINES`."""
    decoding: str = "auto"
    """local: how text is sampled token by token, one of `DECODING`."""
    scored: str = "local"
    """vllm: where answers from a list are scored, one of `SCORED`."""
    url: Any = None
    """vllm: a running server (http://127.0.0.1:8000), or a list of them, of which each rank asks
    one. They must read the folder `adapters`."""
    python: str | None = None
    """vllm: Python of an environment with vLLM, or its folder; a server is started from it (several
    ranks: one on every machine), and ended with the run."""
    adapters: str | None = None
    """Folder through which adapters reach the server; null: a temporary one."""
    options: list[str] = field(default_factory=list)
    """Further arguments of the server that is started ([--max-model-len, "4096"])."""
    timeout: float = limited(600.0, above=0)
    """Seconds that the server may take to start."""

    def __post_init__(self) -> None:
        lookup("engine", self.name, ENGINES)
        lookup("engine.decoding", self.decoding, DECODING)
        lookup("engine.scored", self.scored, SCORED)
        given = self.url if isinstance(self.url, list) else [self.url]
        if self.url is not None and not (given and all(isinstance(one, str) for one in given)):
            raise ComityError(
                f"engine.url: {self.url!r} is neither the address of a server "
                "(http://127.0.0.1:8000) nor a list of addresses"
            )

    @property
    def urls(self) -> list[str]:
        """The running servers; empty where one is started."""
        return [self.url] if isinstance(self.url, str) else list(self.url or ())
