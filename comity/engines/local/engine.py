"""The in-process engine: tokens in, tokens and log-probabilities out.

It knows token ids, adapters and hidden states; it has never heard of a game.

- `Engine` holds one base model and its adapters, and runs packed forward passes.
- `Engine.session()` opens a `Session` (session.py): conversations that grow, with a cache.
- `Engine.read(sequences)` is the same forward pass with gradients, for learning: whole
  sequences at once, every distinct token computed once; `Engine.trunk` computes what all
  of them share one time for several micro-batches.
"""

from collections.abc import Collection, Sequence
from contextlib import nullcontext

import torch
from transformers import AttentionInterface, PreTrainedModel

from comity.engines.local import attention
from comity.engines.local.adapters.lora import Adapters
from comity.engines.local.adapters.lora_layers import model_body
from comity.engines.local.attention import Cache, Pass
from comity.engines.local.context_limit import positions
from comity.engines.local.model_check import check_model, supported
from comity.engines.local.packing import Lane, Packing, Reading, TokenTree, pack
from comity.engines.local.scoring import Head
from comity.engines.local.session import Session, passes
from comity.errors import WorkError

# Here and not beside the function: sessions and records need no transformers, nor do reports.
AttentionInterface.register(attention.NAME, attention.packed_attention)


class TrunkReading:
    """What all sequences share, computed once; its gradients are gathered, then pushed through.

    Micro-batches see detached keys and values whose `.grad` adds up over all of them;
    `backward()` then carries the sum through the trunk's own graph. The result equals the
    gradient of one pass over everything.
    """

    def __init__(self, ids: Sequence[int], cache: attention.Trunk) -> None:
        self.ids = list(ids)
        self._seen = cache.seen
        self.leaves = attention.Trunk(
            {layer: key.detach().requires_grad_() for layer, (key, _) in cache.seen.items()},
            {layer: value.detach().requires_grad_() for layer, (_, value) in cache.seen.items()},
        )

    def fresh(self) -> attention.Trunk:
        """The trunk as a cache for one more micro-batch."""
        return attention.Trunk(self.leaves.keys, self.leaves.values)

    def backward(self) -> None:
        outputs, gradients = [], []
        for layer, (key, value) in self._seen.items():
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
    """One base model in memory, any number of adapters."""

    max_tokens = 16_384
    """Most tokens of one forward pass without gradients; more are computed in several."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Raises `ComityError` where the model is of a kind that packed passes do not compute."""
        own_attention = model.config._attn_implementation
        self.model = model.eval().requires_grad_(False)
        with supported(model):
            self.model.set_attn_implementation(attention.NAME)
            self.head = Head(model)
            self.positions = positions(model)
            self._body = model_body(model)
            self.adapters = Adapters(model)
        self.tokens_computed = 0
        """Distinct tokens computed so far, all passes."""
        self.tokens_reused = 0
        """Tokens whose passes of playing were learned from, so far."""
        check_model(self, own_attention)
        self.tokens_computed = 0

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def session(self, record: int = 0, dropping: Collection[str | None] = ()) -> Session:
        """Conversations over one cache; `record`, `dropping`: see `Session`."""
        return Session(self, record, dropping)

    def forward(
        self, packing: Packing, cache: Cache, dropping: Collection[str | None] = ()
    ) -> torch.Tensor:
        """Last hidden states `[N, H]` of a packing."""
        self.tokens_computed += len(packing)
        if self.positions.learned and len(packing):
            self.positions.check(int(packing.positions.max()) + 1, "a conversation has")
        with self.adapters.routes.of(packing.routes, dropping):
            output = self._body(
                input_ids=packing.tokens[None],
                position_ids=packing.positions[None],
                use_cache=False,
                forward_pass=Pass(packing, cache),
            )
        hidden: torch.Tensor = output.last_hidden_state[0]
        self._refuse_infinite(hidden.detach(), packing)
        return hidden

    def _refuse_infinite(self, hidden: torch.Tensor, packing: Packing) -> None:
        """Raises `WorkError` where hidden states are not numbers, naming whose they are.

        Probabilities made of them would be none: a policy of NaN would "always" do one thing.
        """
        if torch.isfinite(hidden).all():
            return
        for adapter, first, end in packing.routes:
            if not torch.isfinite(hidden[first:end]).all():
                raise WorkError(
                    f"{self.adapters.described(adapter)} gives values that are not finite "
                    "(NaN or infinite); its weights have diverged or are damaged"
                )

    def trunk(self, ids: Sequence[int], adapter: str | None, dropout: bool = False) -> TrunkReading:
        """Compute a common beginning with gradients, to be used by several `read` calls."""
        tree = TokenTree()
        slots, _ = tree.insert(tree.root(adapter), ids)
        cache = attention.Trunk()
        lane = Lane(slots, 0, list(ids), adapter)
        self.forward(pack([lane], 0, self.device), cache, {adapter} if dropout else ())
        return TrunkReading(ids, cache)

    def read(
        self,
        sequences: Sequence[Sequence[int]],
        adapter: str | None,
        trunk: TrunkReading | None = None,
        gradients: bool = True,
        dropout: bool = False,
    ) -> Reading:
        """Hidden states of whole sequences under one adapter, each distinct token once.

        With a trunk, every sequence must begin with the trunk's ids. Without gradients no pass has
        more than `max_tokens` tokens.
        """
        dropping = {adapter} if dropout else ()
        tree = TokenTree()
        root = tree.root(adapter)
        shared: list[int] = []
        if trunk is not None and trunk.ids:
            shared, _ = tree.insert(root, trunk.ids)
            root = shared[-1]
        lanes, rows = [], []
        for ids in sequences:
            tail = ids[len(shared) :]
            slots, known = tree.insert(root, tail)
            path = shared + slots
            rows.append([slot - len(shared) for slot in path])
            if known < len(tail):
                lanes.append(Lane(path, len(shared) + known, tail[known:], adapter))
        if not gradients and trunk is None:
            return Reading(self._in_passes(lanes, dropping), rows)
        cache = trunk.fresh() if trunk is not None else attention.Trunk()
        packing = pack(lanes, len(shared), self.device)
        with nullcontext() if gradients else torch.no_grad():
            return Reading(self.forward(packing, cache, dropping), rows)

    @torch.no_grad()
    def _in_passes(self, lanes: list[Lane], dropping: Collection[str | None]) -> torch.Tensor:
        """Hidden states of lanes that begin with slot 0, `[N, H]`, without gradients."""
        parts = passes(lanes, self.max_tokens)
        cache: Cache = attention.Trunk() if len(parts) == 1 else attention.Pool()
        hidden = [
            self.forward(pack(some, slot, self.device), cache, dropping) for slot, some in parts
        ]
        return hidden[0] if len(hidden) == 1 else torch.cat(hidden)
