"""Makes an update fit into the device's memory: its micro-batches, and activation checkpointing.

`algorithm.microbatch_tokens=auto` and `model.activation_checkpointing=auto` depend on the memory
that is free on the device when the run starts, and on a prediction of what an update needs
(`comity.experiments.memory`). The prediction takes some seconds, so it is skipped where a rough
upper bound fits. Gradients are the same either way but for rounding, so a resumed run may choose
otherwise.
"""

import math
from dataclasses import replace

from comity.config.schema import Config
from comity.config.seats import learner_of
from comity.distributed.environment import ranks_here
from comity.distributed.process_group import ALONE, ProcessGroup
from comity.engines.local.devices import choose_device, choose_dtype, free_bytes
from comity.engines.local.models import fetch
from comity.engines.local.weightless import planned_weight_bytes
from comity.errors import ComityError, warn
from comity.experiments.backends import is_loaded
from comity.experiments.memory import microbatch_choices, predict_memory, predict_resident
from comity.experiments.memory_check import refuse_resident
from comity.experiments.memory_needs import SPARE, size
from comity.experiments.rules import Rules
from comity.players.language_model.context_length import longest_conversation
from comity.players.language_model.model_setup import ModelSetup
from comity.runs.progress import say


def fit_update(setup: ModelSetup, config: Config, rules: Rules) -> Rules:
    """Set `Engine.checkpointing` of a config's loaded model; the rules with a number for `auto`."""
    engine, setting = setup.engine, config.model.activation_checkpointing
    engine.checkpointing = setting == "always"
    choices = microbatch_choices(rules.algorithm, engine.device)
    automatic = len(choices) > 1
    if all(learner_of(seat) is None for seat in config.seats):
        return _with_microbatch(rules, choices[0])
    if setting != "auto" and not automatic:
        return rules
    room = (1 - SPARE) * free_bytes(engine.device)
    if most_activations(setup, rules, choices[0]) <= room:
        return _with_microbatch(rules, choices[0])
    try:
        memory = predict_memory(config, room, loaded=True)
    except ComityError:  # Not every type of model can be predicted.
        return _with_microbatch(rules, choices[-1])
    engine.checkpointing = memory.checkpointing
    if automatic:
        say(f"micro-batches of {memory.microbatch_limit} tokens, as many as fit")
    if memory.checkpointing and setting == "auto":
        say(
            f"activation checkpointing is on: an update would keep {memory.stored / 1e9:.1f} GB, "
            f"and keeps {memory.recomputed / 1e9:.1f} GB"
        )
    if memory.peak > room + memory.weights + memory.other_models:
        warn(
            f"the run may need up to {size(memory.peak)} of memory in all, and {size(int(room))} "
            "are free beside the weights; comity doctor says what to change"
        )
    return _with_microbatch(rules, memory.microbatch_limit)


def check_fit(config: Config, ranks: ProcessGroup = ALONE) -> None:
    """Raises `ComityError` if what a training run keeps all the time is predicted not to fit.

    For before the weights are loaded. Skipped where the weights take less than half of what is
    free.
    """
    model = config.model
    device = choose_device(model.device)
    with ranks.together():  # No rank loads before all have seen what is free.
        free = free_bytes(device) / (ranks_here() if device.type == "cpu" else 1)
    if is_loaded(model):
        return
    try:
        weights = planned_weight_bytes(fetch(model.name), choose_dtype(model.dtype, device))
        if weights < free / 2:
            return
        memory = predict_resident(config)
    except ComityError:  # Not every type of model can be predicted.
        return
    refuse_resident(config, memory, free)


def _with_microbatch(rules: Rules, tokens: int | None) -> Rules:
    """The rules with so many tokens in a micro-batch; as they are for algorithms without any."""
    if tokens is None:
        return rules
    algorithm = replace(rules.algorithm, microbatch_tokens=tokens)  # type: ignore[arg-type]
    return replace(rules, algorithm=algorithm)


def most_activations(setup: ModelSetup, rules: Rules, microbatch_tokens: int | None) -> float:
    """An upper bound, in bytes, on what one micro-batch of an update needs."""
    config = setup.engine.model.config.get_text_config()
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    experts = getattr(config, "num_experts_per_tok", None) or 1
    if microbatch_tokens is None:
        return math.inf
    longest = longest_conversation(setup, rules.game)
    heads = config.num_attention_heads
    wide = heads * (getattr(config, "head_dim", None) or 0)
    # Numbers of a token and layer: projections, norms, attention's weights, and for each adapted
    # matrix its input with dropout.
    numbers = 24 * max(width, wide) + 8 * inner * experts + 3 * heads * longest
    tokens = microbatch_tokens + 2 * longest
    return 4.0 * tokens * config.num_hidden_layers * numbers
