"""Predicts the memory of a run from its config, without loading the model's weights.

Two numbers matter: the most memory while matches are played, and while a learner is updated. Both
are counted, not estimated: the engine and the learner run one pass each on tensors that have a
shape and no values (`comity.engines.local.weightless`), at the sizes that the config allows. The
sizes are upper bounds: every conversation is as long as it can become, and no two are alike after
they could differ.

    playing   weights + adapters + Adam's moments + cache of keys and values + one pass
    learning  weights + adapters + Adam's moments + gradients and one micro-batch

The program itself (Python, torch and transformers without a model) comes on top of both.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

from comity.config.player_names import parse_player
from comity.config.schema import Config
from comity.config.seats import learner_of
from comity.distributed.environment import world_size
from comity.engines.local.adapters.files import WEIGHTS
from comity.engines.local.adapters.lora import MERGED_BYTES
from comity.engines.local.devices import check_quantization, choose_device, choose_dtype
from comity.engines.local.kv_buffers import BUFFER_MARGIN, MAX_BUFFER_TOKENS
from comity.engines.local.kv_cache import KVCache, grown_capacity
from comity.engines.local.models import fetch, is_here
from comity.engines.local.packing import pack
from comity.engines.local.prefix_tree import Segment
from comity.engines.local.scoring import MAX_LOGITS
from comity.engines.local.session import MERGE_MIN_TOKENS
from comity.engines.local.weightless import WeightlessEngine
from comity.errors import ComityError
from comity.experiments.agent_plans import is_agent, plan_agent, seat_adapters
from comity.experiments.backends import chat_format
from comity.experiments.conversation_sizes import Sizes, conversation_sizes
from comity.experiments.memory_needs import Memory, Resident, fitting
from comity.experiments.rules import Rules
from comity.experiments.update_memory import WeightlessUpdate
from comity.learning.algorithms import Algorithm
from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.microbatch_tokens import AUTO
from comity.learning.ppo.objective import PpoSettings
from comity.players.language_model.model_setup import ModelSetup


def predict_memory(config: Config, room: float = math.inf, loaded: bool = False) -> Memory:
    """The memory of one training run; raises `ComityError` for models that are not here.

    `room`: bytes for the run, by which `auto` chooses the size of micro-batches and activation
    checkpointing (see `fitting`). `loaded`: the models' weights are in
    memory already, beside that room.
    """
    return _Prediction(config).fitted(room, loaded)


def predict_resident(config: Config) -> Resident:
    """What a run keeps in memory all the time; raises `ComityError` as `predict_memory`.

    Takes a fraction of the time of `predict_memory`, because no pass is counted.
    """
    return _Prediction(config).resident()


def microbatch_choices(algorithm: Algorithm, device: torch.device) -> tuple[int | None, ...]:
    """Sizes of micro-batches among which an update may choose, the largest first; None: no limit.

    More than one if `microbatch_tokens` is auto.
    """
    given = getattr(algorithm, "microbatch_tokens", None)
    return AUTO.get(device.type, AUTO["cpu"]) if given == "auto" else (given,)


def _folder(name: str) -> Path:
    """The folder of a model; `ComityError` for one that would have to be downloaded."""
    if not (name.startswith(("/", ".", "~")) or is_here(name)):
        raise ComityError(
            f"the model {name} is not on this machine, and its memory is predicted from its files; "
            f"download it with comity models fetch {name}"
        )
    return fetch(name)


class _Prediction:
    """One prediction; see the module's docstring."""

    def __init__(self, config: Config) -> None:
        self.config, self.rules = config, Rules.of(config)
        model = config.model
        self.device = choose_device(model.device)
        check_quantization(model.quantization, self.device)
        self.dtype = choose_dtype(model.dtype, self.device)
        seats = [learner_of(seat) for seat in config.seats]
        self.learners = list(dict.fromkeys(name for name in seats if name is not None))
        algorithm = self.rules.algorithm
        self.critics = isinstance(algorithm, Reinforce) and algorithm.estimator == "gae"
        self.engine = self._engine(_folder(model.name), self.learners[:1])

    @cached_property
    def sizes(self) -> Sizes:
        chat = chat_format(self.config, self.rules)
        labels = self.rules.prompt.labels(self.rules.game)
        setup = ModelSetup(
            self.engine,
            chat.for_vocabulary(self.engine.head.vocabulary, labels),
            *(self.rules.prompt, self.rules.answer),
            exploration=self.rules.exploration,
        )
        return conversation_sizes(self.config, self.rules, setup)

    def _engine(self, folder: Path, adapters: Sequence[str]) -> WeightlessEngine:
        shape = {k: v for k, v in vars(self.config.adapter).items() if k != "dropout_in"}
        return WeightlessEngine(folder, self.dtype, self.device, dict.fromkeys(adapters, shape))

    def fitted(self, room: float, loaded: bool) -> Memory:
        """See `predict_memory`."""
        setting = self.config.model.activation_checkpointing
        memory = self._without_update()
        if loaded:
            room += memory.weights + memory.other_models
        limits = microbatch_choices(self.rules.algorithm, self.device)
        update = cache(lambda limit: replace(memory, **self._update(limit)))
        return fitting(update, limits, setting, room)

    def resident(self) -> Resident:
        """What stays in memory all the time."""
        each = self.engine.adapter_bytes(self.learners[0]) if self.learners else 0
        trained = each * len(self.learners) * (2 if self.critics else 1)
        if isinstance(self.rules.algorithm, PpoSettings):  # A value head each, in float32.
            width = self.engine.model.config.get_text_config().hidden_size
            trained += 4 * (width + 1) * len(self.learners)
        shards = self._shards()
        return Resident(
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            weights=self.engine.weight_bytes(self.config.model.quantization is not None, shards),
            other_models=self._other_models(),
            adapters=trained + each * self._snapshots() + self._frozen_adapters(),
            optimizer=2 * trained,
            gradients=each,
            shards=shards,
            gathered=self.engine.gathered_bytes() if shards > 1 else 0,
        )

    def _without_update(self) -> Memory:
        """Bytes of every part but an update's."""
        cache, play_pass = self._play()
        return Memory(
            **vars(self.resident()),
            sizes=self.sizes,
            cache=cache,
            play_pass=play_pass,
            merged=self._merged(),
            stored=0,
            recomputed=0,
            microbatch_tokens=0,
            microbatch_limit=None,
            sequence_tokens=self.sizes.longest if self.learners else 0,
        )

    def _shards(self) -> int:
        """Ranks among which the base is divided: those that run, or one per GPU of this machine."""
        if self.config.model.sharding == "none":
            return 1
        if world_size() > 1 or self.device.type != "cuda":
            return world_size()
        return max(1, torch.cuda.device_count())

    def _snapshots(self) -> int:
        """Past checkpoints that are loaded at a time."""
        pool = self.config.opponent_pool
        if pool is None:
            return 0
        made = min(pool.capacity, self.config.iterations // pool.every)
        initial = pool.capacity if pool.initial_snapshots is not None else made
        return max(made, initial) * len(self.learners)

    def _frozen_adapters(self) -> int:
        """Bytes of the adapters of frozen policies on seats."""
        files = [folder / WEIGHTS for folder in seat_adapters(self.config)]
        return sum(file.stat().st_size for file in files if file.is_file())

    def _other_models(self) -> int:
        """Bytes of the weights of other base models."""
        plans = [
            plan_agent(parse_player(seat), self.config)
            for seat in self.config.seats
            if is_agent(seat)
        ]
        names = {plan.config.model.name for plan in plans} - {self.config.model.name}
        return sum(self._engine(_folder(name), ()).weight_bytes() for name in sorted(names))

    def _merged(self) -> int:
        """Bytes of merged copies of the adapted layers (see `Adapters.merged`)."""
        # Not for short answers.
        if self.sizes.sampled < MERGE_MIN_TOKENS or self.device.type != "cpu":
            return 0
        if not self.learners:
            return 0
        if self._shards() > 1:
            return 0
        if self.dtype != torch.float32:
            return 0
        names = self.engine.adapters.parameters(self.learners[0])
        layers = {name.rpartition(".lora_")[0] for name in names}
        copies = sum(
            self.engine.model.get_submodule(layer).base_layer.weight.nbytes  # type: ignore[union-attr]
            for layer in layers
        )
        return copies if copies <= MERGED_BYTES else 0

    def _play(self) -> tuple[int, int]:
        """Bytes of the cache at the end of play, and of the largest pass beside it."""
        sizes, last, prompt = self.sizes, self.sizes.chunks[-1], self.sizes.prompt
        path = list(range(sizes.longest - sizes.sampled - prompt))
        first = max(len(path), sizes.distinct - last.slots)
        # Prompts that begin alike are one segment, and of all but the first of them the rest.
        alike = min(last.alike, prompt - 1)
        count = min(
            math.ceil(last.distinct * sizes.together), max(1, self.engine.max_tokens // prompt)
        )
        begun = min(count, last.before) if alike else count
        segments = [(path, first + number * prompt, prompt) for number in range(begun)]
        slot, rest = first + begun * prompt, prompt - alike
        for number in range(count - begun):
            start = segments[number % begun][1]
            segments.append(([*path, *range(start, start + alike)], slot + number * rest, rest))
        seen, per_slot, per_state = self._pass(segments)
        seen = max(seen, self._pass(self._first_prompts())[0])
        capacity = used = 0
        for end in sizes.passes():
            capacity, used = grown_capacity(capacity, used, end), end
        cached = per_slot * capacity + per_state * sizes.distinct
        return cached, max(seen, self._sampling(per_slot))

    def _first_prompts(self) -> list[tuple[list[int], int, int]]:
        """The first pass of play: what all prompts begin with, and the rest of each."""
        sizes = self.sizes
        whole, shared = sizes.shared + sizes.opening, list(range(sizes.shared))
        more = min(sizes.openings, max(1, self.engine.max_tokens // max(1, sizes.opening))) - 1
        rest = [(shared, whole + number * sizes.opening, sizes.opening) for number in range(more)]
        return [([], 0, whole), *(rest if sizes.opening else [])]

    def _pass(self, segments: Sequence[tuple[list[int], int, int]]) -> tuple[int, int, int]:
        """Bytes of one pass beside the cache, of a slot in the cache, and of a hidden state.

        `segments`: slots that a segment continues, its first own slot, and its number of tokens.
        """
        adapter, cache = next(iter(self.learners), None), KVCache()
        with torch.no_grad(), self.engine.memory() as memory:
            batch = [
                Segment([*path, *range(slot, slot + new)], len(path), [1] * new, adapter)
                for path, slot, new in segments
            ]
            hidden = self.engine.forward(pack(batch, segments[0][1], self.device), cache)
            per_slot, per_state = cache.nbytes // cache.slots, hidden.nbytes // len(hidden)
            return memory.peak - cache.nbytes, per_slot, per_state

    def _sampling(self, per_slot: int) -> int:
        """Bytes of sampling one token of every conversation over the whole vocabulary."""
        sizes = self.sizes
        if not sizes.sampled:
            return 0
        vocabulary = self.engine.head.vocabulary
        rows = min(sizes.conversations, max(1, MAX_LOGITS // vocabulary))
        logits = rows * vocabulary * 28  # Three tables of float32 numbers, two of float64.
        if self.device.type != "cpu":
            return logits
        # Gathered keys and values, see `KVBuffers`.
        positions = sizes.conversations * (sizes.own + BUFFER_MARGIN) + sizes.shared
        return logits + per_slot * min(MAX_BUFFER_TOKENS, positions)

    def _update(self, limit: int | None) -> dict[str, Any]:
        """Fields of `Memory` for an update in micro-batches of at most so many tokens."""
        if not self.learners:
            return {"microbatch_limit": limit}
        adapter = self.config.adapter
        update = WeightlessUpdate(
            engine=self.engine,
            sizes=self.sizes,
            learner=self.learners[0],
            learners=len(self.learners),
            algorithm=self.rules.algorithm,
            optimizer=self.rules.optimizer,
            dropout=adapter.dropout > 0 and adapter.dropout_in != "playing",
        )
        return update.fields(limit)
