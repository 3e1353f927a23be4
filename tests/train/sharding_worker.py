"""One of two ranks that hold a tiny model in parts, and compute unlike numbers of passes.

Argument: the model's folder. Each rank prints what it saw as one line of JSON.
"""

import json
import sys
from typing import Any

import torch

from comity.distributed.block_gathering import is_sharded, local_part
from comity.distributed.joining import joined
from comity.engines.local.activation_checkpointing import transformer_blocks
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model
from comity.engines.local.sharding import load_sharded
from comity.engines.local.weightless import TensorMemory

PREFIX, TAILS = [5, 6, 7, 8], ([9, 10], [11], [9, 12, 13])


def with_adapter(engine: Engine) -> Engine:
    engine.adapters.add("main", rank=4)
    generator = torch.Generator().manual_seed(3)
    for weight in engine.adapters.parameters("main").values():
        weight.data.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return engine


def gradients(engine: Engine) -> list[torch.Tensor]:
    """Of a loss over micro-batches with a common prefix, in which the last layer counts."""
    prefix = engine.shared_prefix(PREFIX, "main")
    for tail in TAILS:
        states = engine.hidden_states([[*PREFIX, *tail]], "main", prefix)
        states.hidden.square().sum().backward()
    prefix.backward()
    weights = engine.adapters.parameters("main").values()
    found = [weight.grad for weight in weights if weight.grad is not None]
    for weight in weights:
        weight.grad = None
    return found


def whole_blocks(model: torch.nn.Module) -> int:
    """Blocks whose weights are all here."""
    return sum(not is_sharded(block) for block in transformer_blocks(model))


def block_bytes(model: torch.nn.Module) -> int:
    """Bytes of the blocks' weights on this rank, without adapters."""
    return sum(
        local_part(weight).nbytes
        for block in transformer_blocks(model)
        for name, weight in block.named_parameters()
        if ".lora_" not in name
    )


def main() -> None:
    torch.set_num_threads(1)
    folder = sys.argv[1]
    plain = with_adapter(Engine(load_model(folder, "float32", "cpu")))
    with joined() as ranks:
        engine = with_adapter(Engine(*load_sharded(folder, "float32", "cpu", ranks)))  # type: ignore[arg-type]
        model: Any = engine.model
        blocks = transformer_blocks(model)
        seen: list[int] = []
        handles = [
            block.mlp.register_forward_pre_hook(lambda *_: seen.append(whole_blocks(model)))
            for block in blocks
        ]
        worst = 0.0
        for turn in range(3 if ranks.first else 1):
            engine.checkpointing = turn == 1
            for one, other in zip(gradients(engine), gradients(plain), strict=True):
                worst = max(worst, float((one - other).abs().max() / other.abs().max()))
        ids = [[*PREFIX, *tail] for tail in TAILS] * (1 if ranks.first else 2)
        hidden = engine.hidden_states(ids, "main", gradients=False).hidden
        expected = plain.hidden_states(ids, "main", gradients=False).hidden
        ranks.gather(None)  # The rank that is here first helps the other one.
        for handle in handles:
            handle.remove()
        engine.adapters.add("second", rank=2)  # Compares the base's weights.
        lora = [weight for name, weight in model.named_parameters() if ".lora_" in name]
        with TensorMemory() as memory:
            kept = []
            for _ in range(3):
                engine.hidden_states(ids, "main")  # Its graph is dropped.
                kept.append(memory.live)
        ranks.gather(None)
        facts = {
            "kept": kept[2] - kept[0],
            "gradients": worst,
            "passes": float((hidden - expected).abs().max()),
            "most_whole": max(seen),
            "part": block_bytes(model),
            "whole": block_bytes(plain.model),
            "replicated": [len(engine.head.weight), len(model.get_input_embeddings().weight)],
            "vocabulary": plain.head.vocabulary,
            "plain_adapters": bool(lora) and not any(hasattr(w, "to_local") for w in lora),
        }
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
