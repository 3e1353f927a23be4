"""Whether the learners of an experiment use activation checkpointing.

With `auto` they do if an update that keeps all activations is predicted not to fit into the memory
that is free on the device (`comity.experiments.memory`). The prediction takes some seconds, so it
is skipped where a rough upper bound fits. Gradients are the same either way, so a resumed run may
choose otherwise.
"""

from comity.config.schema import Config
from comity.config.seats import learner_of
from comity.engines.local.devices import free_bytes
from comity.errors import ComityError
from comity.experiments.memory import predict_memory
from comity.experiments.memory_needs import SPARE
from comity.experiments.rules import Rules
from comity.players.language_model.context_length import longest_conversation
from comity.players.language_model.model_setup import ModelSetup
from comity.runs.progress import say


def choose_checkpointing(setup: ModelSetup, config: Config, rules: Rules) -> None:
    """Set `Engine.checkpointing` of a config's loaded model."""
    engine, setting = setup.engine, config.model.activation_checkpointing
    engine.checkpointing = setting == "always"
    if setting != "auto" or all(learner_of(seat) is None for seat in config.seats):
        return
    room = (1 - SPARE) * free_bytes(engine.device)
    if most_activations(setup, rules) <= room:
        return
    try:
        memory = predict_memory(config)
    except ComityError:  # Not every type of model can be predicted.
        return
    # The weights are loaded: they are no longer in what is free.
    memory = memory.fitted(setting, room + memory.weights + memory.other_models)
    engine.checkpointing = memory.checkpointing
    if memory.checkpointing:
        say(
            f"activation checkpointing is on: an update would keep {memory.stored / 1e9:.1f} GB, "
            f"and keeps {memory.recomputed / 1e9:.1f} GB"
        )


def most_activations(setup: ModelSetup, rules: Rules) -> float:
    """An upper bound, in bytes, on what one micro-batch of an update needs."""
    config = setup.engine.model.config.get_text_config()
    budget = getattr(rules.algorithm, "microbatch_tokens", None)
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    experts = getattr(config, "num_experts_per_tok", None) or 1
    if budget is None:
        return float("inf")
    longest = longest_conversation(setup, rules.game)
    heads = config.num_attention_heads
    wide = heads * (getattr(config, "head_dim", None) or 0)
    # Numbers of a token and layer: projections, norms, attention's weights, and for each adapted
    # matrix its input with dropout.
    numbers = 24 * max(width, wide) + 8 * inner * experts + 3 * heads * longest
    tokens = budget + 2 * longest
    return 4.0 * tokens * config.num_hidden_layers * numbers
