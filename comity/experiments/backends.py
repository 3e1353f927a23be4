"""The backends of language models, for a config: loaded model, chat format, prompt, answer format.

Runs in one process share the base model.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from comity.config.schema import Config, ModelConfig
from comity.distributed.process_group import ALONE, ProcessGroup, TorchProcessGroup
from comity.engines.chat import ChatFormat
from comity.engines.local.devices import check_quantization, choose_device, make_deterministic
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.errors import ComityError
from comity.experiments.memory_check import check_weights
from comity.experiments.rules import Rules
from comity.experiments.text_engines import check_text_engine, choose_text_engine
from comity.players.language_model.context_length import check_context
from comity.players.language_model.player import LanguageModelBackend
from comity.runs.progress import say

_latest: list[str | None] = []
"""The model that was loaded last, as `shared_engine` was asked for it."""


@lru_cache(maxsize=1)
def shared_engine(
    name: str,
    dtype: str,
    device: str,
    quantization: str | None = None,
    shards: ProcessGroup = ALONE,
) -> Engine:
    """The engine with the base model, loaded once per process.

    `shards`: the ranks among which its blocks are divided.
    """
    say(f"loading the model {name} ...")
    _latest[:] = [name, dtype, device, quantization]
    if isinstance(shards, TorchProcessGroup):
        from comity.engines.local.sharding import load_sharded  # Not every build of torch has it.

        return Engine(*load_sharded(name, dtype, device, shards))
    return Engine(load_model(name, dtype, device, quantization))


def is_loaded(model: ModelConfig) -> bool:
    """Whether this is the model that `shared_engine` loaded last."""
    return _latest == [model.name, model.dtype, model.device, model.quantization]


def check_before_loading(config: Config, ranks: ProcessGroup = ALONE) -> None:
    """Raises `ComityError` for a missing vLLM server, and for weights that do not fit."""
    check_text_engine(config, ranks)
    if not is_loaded(config.model):
        check_weights(config.model, ranks)


@lru_cache(maxsize=1)
def shared_tokenizer(name: str) -> Any:
    """The model's tokenizer, loaded once per process."""
    return load_tokenizer(name)


def chat_format(config: Config, rules: Rules) -> ChatFormat:
    """The chat format of a config's model, checked against labels and instructions."""
    chat = ChatFormat.from_tokenizer(shared_tokenizer(config.model.name), config.model.system)
    chat = chat.with_token_labels(labels := rules.prompt.labels(rules.game))
    chat.encode_labels(labels)
    for one in rules.exploration.instructions:
        if found := chat.control_pattern.search(one.sentence):
            raise ComityError(
                f"exploration: {one.sentence!r} contains {found.group()!r}, a control token of the "
                "model's chat template; remove it"
            )
    return chat


def language_models(
    config: Config, rules: Rules, ranks: ProcessGroup = ALONE
) -> LanguageModelBackend:
    """The backend of all language-model players.

    `ranks`: the processes that train together, among which `model.sharding` divides the model, and
    which share a vLLM server.
    """
    model: ModelConfig = config.model
    if model.threads is not None:
        torch.set_num_threads(model.threads)
    make_deterministic(model.deterministic)
    # Before loading the tokenizer, which may download the model.
    check_quantization(model.quantization, choose_device(model.device))
    check_before_loading(config, ranks)
    # Check labels before the model is loaded; `for_vocabulary` needs its output size.
    chat = chat_format(config, rules)
    shards = ALONE if model.sharding == "none" else ranks
    engine = shared_engine(model.name, model.dtype, model.device, model.quantization, shards)
    engine.choose_decoding(config.engine.decoding)
    on_server = choose_text_engine(engine, config, chat.tokenizer, ranks)
    chat = chat.for_vocabulary(engine.head.vocabulary, rules.prompt.labels(rules.game))
    models = LanguageModelBackend(
        engine, chat, rules.prompt, rules.answer, exploration=rules.exploration
    )
    models.check(rules.game)
    after = 0
    if config.record.followups:
        questions = config.record.questions.values()
        after = max(
            (len(chat.encode_next_prompt(one, ended=False)) for one in questions), default=0
        )
        after += config.record.followup_tokens
    check_context(models, rules.game, after, on_server)
    return models


def without_learners(config: Config) -> Config:
    """The config with the base model on every seat and without training features."""
    return replace(
        config,
        seats=["base"] * len(config.seats),
        seat_assignment="fixed",
        algorithm={"name": "reinforce"},
        phases=[],
        reset=[],
        study=None,
        crossplay=None,
        opponent_pool=None,
        exploration=[],
    )


def untrained_models(config: Config, ranks: ProcessGroup = ALONE) -> LanguageModelBackend:
    """The backend for a config's model, prompt and answer format; nothing is trained with it."""
    plain = without_learners(config)
    return language_models(plain, Rules.of(plain), ranks)
