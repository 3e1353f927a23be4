"""The in-process engine: tokens in, tokens and log-probabilities out.

It handles token ids, adapters and hidden states, and knows nothing about games.

- `Engine` holds one base model and its adapters, and runs packed forward passes.
- `Engine.session()` opens a `Session` (session.py): growing conversations over a KV cache.
- `Engine.hidden_states(sequences)` is the same forward pass for training, with gradients: whole
  sequences at once, every distinct token computed once. `Engine.shared_prefix` computes their
  common prefix one time for several micro-batches.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext

import torch
from transformers import AttentionInterface, PreTrainedModel

from comity.distributed.block_gathering import BlockGathering
from comity.engines.local import attention
from comity.engines.local.activation_checkpointing import make_checkpointable
from comity.engines.local.adapters.lora import Adapters
from comity.engines.local.adapters.lora_layers import model_body
from comity.engines.local.attention import ForwardContext
from comity.engines.local.check_conditions import plain_attention
from comity.engines.local.context_limit import context_limit
from comity.engines.local.decoding import Routes
from comity.engines.local.kv_cache import Cache, KVCache, PrefixCache
from comity.engines.local.model_check import check_model, unsupported_errors
from comity.engines.local.packing import HiddenStates, PackedBatch, pack
from comity.engines.local.prefix_tree import PrefixTree, Segment, split_passes
from comity.engines.local.sampling import SamplingState
from comity.engines.local.score_cache import Scorer
from comity.engines.local.scoring import LMHead
from comity.engines.local.session import Session
from comity.engines.local.windows import Windows
from comity.errors import ComityError, WorkError

# Registered here, not in `attention`: sessions, records and reports do not import transformers.
AttentionInterface.register(attention.NAME, attention.packed_attention)


class SharedPrefix:
    """The common prefix of all sequences, computed once, with accumulated gradients.

    Micro-batches see detached keys and values whose `.grad` accumulates over all of them;
    `backward()` then propagates the sum through the prefix's own graph. The result equals the
    gradient of a single pass over everything.
    """

    def __init__(self, ids: Sequence[int], cache: PrefixCache) -> None:
        self.ids = list(ids)
        self._computed = cache.computed
        self.leaves = PrefixCache(
            {layer: key.detach().requires_grad_() for layer, (key, _) in cache.computed.items()},
            {
                layer: value.detach().requires_grad_()
                for layer, (_, value) in cache.computed.items()
            },
        )

    def new_cache(self) -> PrefixCache:
        """A cache that begins with the prefix, for one more micro-batch."""
        return PrefixCache(self.leaves.keys, self.leaves.values)

    def backward(self) -> None:
        outputs, gradients = [], []
        for layer, (key, value) in self._computed.items():
            for output, leaf in (
                (key, self.leaves.keys[layer]),
                (value, self.leaves.values[layer]),
            ):
                if leaf.grad is not None and output.requires_grad:
                    outputs.append(output)
                    gradients.append(leaf.grad)
        if outputs:
            torch.autograd.backward(outputs, gradients)


class Engine:
    """One base model in memory with any number of adapters."""

    max_tokens = 16_384
    """Most tokens of one forward pass without gradients; more are split into several passes."""
    checkpointing = False
    """Whether passes with gradients keep the inputs of transformer blocks alone, and compute the
    blocks again in the backward pass."""

    def __init__(self, model: PreTrainedModel, sharding: BlockGathering | None = None) -> None:
        """Raises `ComityError` for model types that packed passes do not support.

        `sharding`: of a model whose blocks are divided among ranks
        (`comity.engines.local.sharding`).
        """
        own_attention = plain_attention(model)
        self.model = model.eval().requires_grad_(False)
        self._sharded = sharding is not None
        with unsupported_errors(model):
            self.model.set_attn_implementation(attention.NAME)
            self.head = LMHead(model)
            self.context_limit = context_limit(model)
            self._body = model_body(model)
            self.adapters = Adapters(model, sharding)
        make_checkpointable(self._body, self.adapters.routes)
        self.choose_decoding("auto")
        self.text_sampler: Callable[[list[SamplingState]], list[SamplingState]] | None = None
        """Samples text elsewhere (`comity.engines.vllm`); None: here."""
        self.scorer: Scorer | None = None
        """Scores answers elsewhere; None: here."""
        self.served: Counter[str] = Counter()
        """What a server did for this engine so far (`comity.engines.vllm`), by name."""
        self.tokens_computed = 0
        """Distinct tokens computed so far, in all passes."""
        self.tokens_reused = 0
        """Tokens whose forward passes during play were reused for training, so far."""
        check_model(self, own_attention)
        self.tokens_computed = 0

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def choose_decoding(self, how: str) -> None:
        """How sessions sample text: "packed", "static", "graphs" or "auto".

        Raises `ComityError` for graphs on another device than CUDA, or with sharded weights.
        """
        cuda = self.device.type == "cuda"
        if how == "graphs" and self._sharded:
            raise ComityError(
                "engine.decoding=graphs replays passes, and with model.sharding=fsdp2 each must "
                "gather its weights; set engine.decoding=auto"
            )
        if how == "graphs" and not cuda:
            raise ComityError(
                f"engine.decoding=graphs needs CUDA, and the model runs on {self.device.type}; "
                "set engine.decoding=auto"
            )
        self.static_decoding = how in ("static", "graphs") or (how == "auto" and cuda)
        self.cuda_graphs = cuda and not self._sharded and how in ("graphs", "auto")

    def session(self, record: int = 0, dropout_adapters: Collection[str | None] = ()) -> Session:
        """Conversations over one cache; `record`, `dropout_adapters`: see `Session`."""
        return Session(self, record, dropout_adapters)

    def forward(
        self, batch: PackedBatch, cache: Cache, dropout_adapters: Collection[str | None] = ()
    ) -> torch.Tensor:
        """Last hidden states `[N, H]` of a packed batch."""
        self.tokens_computed += len(batch)
        if self.context_limit.is_hard and len(batch):
            self.context_limit.check(int(batch.positions.max()) + 1, "a conversation has")
        checkpointing = self.checkpointing and torch.is_grad_enabled()
        with self.adapters.routes.active(batch.routes, dropout_adapters):
            output = self._body(
                input_ids=batch.tokens[None],
                position_ids=batch.positions[None],
                use_cache=False,
                forward_context=ForwardContext(batch, cache, checkpointing),
            )
        hidden: torch.Tensor = output.last_hidden_state[0]
        self.refuse_infinite(hidden.detach(), batch.routes)
        return hidden

    @torch.no_grad()
    def decode_step(
        self, tokens: torch.Tensor, positions: torch.Tensor, routes: Routes, context: Windows
    ) -> torch.Tensor:
        """Hidden states `[B, H]` of one new token per row of the windows, without checks."""
        with self.adapters.routes.active(routes):
            output = self._body(
                input_ids=tokens[None],
                position_ids=positions[None],
                use_cache=False,
                forward_context=context,
            )
        hidden: torch.Tensor = output.last_hidden_state[0]
        return hidden

    def refuse_infinite(self, hidden: torch.Tensor, routes: Routes) -> None:
        """Raises `WorkError` for hidden states that are not finite, naming their adapter.

        With NaN probabilities a policy would silently always choose the same action.
        """
        if torch.isfinite(hidden).all():
            return
        for adapter, first, end in routes:
            if not torch.isfinite(hidden[first:end]).all():
                raise WorkError(
                    f"{self.adapters.describe(adapter)} gives values that are not finite "
                    "(NaN or infinite); its weights have diverged or are damaged"
                )

    def shared_prefix(
        self, ids: Sequence[int], adapter: str | None, dropout: bool = False
    ) -> SharedPrefix:
        """Compute a common prefix with gradients, for several calls of `hidden_states`."""
        tree = PrefixTree()
        slots, _ = tree.insert(tree.root(adapter), ids)
        cache = PrefixCache(keep=True)
        segment = Segment(slots, 0, list(ids), adapter)
        self.forward(pack([segment], 0, self.device), cache, {adapter} if dropout else ())
        return SharedPrefix(ids, cache)

    def hidden_states(
        self,
        sequences: Sequence[Sequence[int]],
        adapter: str | None,
        shared_prefix: SharedPrefix | None = None,
        gradients: bool = True,
        dropout: bool = False,
    ) -> HiddenStates:
        """Hidden states of whole sequences under one adapter, each distinct token once.

        With a shared prefix, every sequence must begin with its ids. Without gradients, no pass
        has more than `max_tokens` tokens.
        """
        dropout_adapters = {adapter} if dropout else ()
        tree = PrefixTree()
        root = tree.root(adapter)
        shared: list[int] = []
        if shared_prefix is not None and shared_prefix.ids:
            shared, _ = tree.insert(root, shared_prefix.ids)
            root = shared[-1]
        segments, rows = [], []
        for ids in sequences:
            tail = ids[len(shared) :]
            slots, known = tree.insert(root, tail)
            path = shared + slots
            rows.append([slot - len(shared) for slot in path])
            if known < len(tail):
                segments.append(Segment(path, len(shared) + known, tail[known:], adapter))
        if not gradients and shared_prefix is None:
            return HiddenStates(self._hidden_without_gradients(segments, dropout_adapters), rows)
        cache = shared_prefix.new_cache() if shared_prefix is not None else PrefixCache()
        batch = pack(segments, len(shared), self.device)
        with nullcontext() if gradients else torch.no_grad():
            return HiddenStates(self.forward(batch, cache, dropout_adapters), rows)

    @torch.no_grad()
    def _hidden_without_gradients(
        self, segments: list[Segment], dropout_adapters: Collection[str | None]
    ) -> torch.Tensor:
        """Hidden states of segments whose slots begin with 0, `[N, H]`, without gradients."""
        parts = split_passes(segments, self.max_tokens)
        cache: Cache = PrefixCache() if len(parts) == 1 else KVCache()
        hidden = [
            self.forward(pack(some, slot, self.device), cache, dropout_adapters)
            for slot, some in parts
        ]
        return hidden[0] if len(hidden) == 1 else torch.cat(hidden)
