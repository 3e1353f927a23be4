"""Decoding token by token in passes that always have the same shape.

A packed pass suits whatever comes: new conversations, shared prefixes, answers of any length. Its
shapes change from pass to pass, and each pass launches some thousand small kernels one by one. On
a GPU that takes far longer than the arithmetic. While text is sampled, though, every conversation
needs one more token at a time. Here each of them has a row with a window of keys and values of
fixed size, so all passes are alike: on CUDA one is recorded as a graph, and replaying it is a
single launch.

`StaticDecoder` computes passes; `decode` samples answers with one, and puts what was computed into
the session's prefix tree and cache, where later passes find it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from comity.engines.local.attention import AttentionScoring, attend_masked
from comity.engines.local.context_limit import ContextLimit
from comity.engines.local.conversation import Conversation
from comity.engines.local.kv_cache import KVCache
from comity.engines.local.prefix_tree import PrefixTree
from comity.engines.local.sampling import SamplingState, sample_tokens
from comity.engines.local.scoring import LMHead

WINDOW_STEP = 256
"""Windows grow by multiples of so many positions, so that few graphs are recorded."""
MEMORY_SHARE = 0.4
"""Most of the free memory that windows may take; conversations beyond are computed in packed
passes."""
MIN_TOKENS = 8
"""With fewer tokens to sample, recording a graph takes longer than it saves."""

Routes = tuple[tuple[str | None, int, int], ...]
"""(adapter, first row, end row)."""


class DecodingEngine(Protocol):
    """What decoding needs of an engine (`comity.engines.local.engine.Engine`)."""

    head: LMHead
    context_limit: ContextLimit
    cuda_graphs: bool
    """Whether passes are recorded as CUDA graphs; set to False where that fails."""
    tokens_computed: int

    @property
    def device(self) -> torch.device: ...

    def decode_step(
        self, tokens: torch.Tensor, positions: torch.Tensor, routes: Routes, context: "Windows"
    ) -> torch.Tensor:
        """Hidden states `[B, H]` of one token per row."""
        ...

    def refuse_infinite(self, hidden: torch.Tensor, routes: Routes) -> None:
        """Raises `WorkError` for hidden states that are not finite, naming their adapter."""
        ...


class Windows:
    """Keys and values of B rows with W positions each; the forward context of `decode_step`.

    Attention of a row's new token is to the positions up to its own, as far as a sliding window
    reaches. Position p of a row holds token p of its conversation.
    """

    checkpointing = False

    def __init__(self, rows: int, width: int, device: torch.device) -> None:
        self.width = width
        self.positions = torch.zeros(rows, dtype=torch.int64, device=device)
        """Position of each row's new token."""
        self._rows = torch.arange(rows, device=device)
        self._keys = torch.arange(width, device=device)
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """By layer: `[B, kv_heads, W, dim]`."""
        self._biases: dict[tuple[int | None, torch.dtype], torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, cache: KVCache, paths: Sequence[Sequence[int]]) -> None:
        """Copy the slots of each row's conversation from a cache; a row without any is idle."""
        device = self.positions.device
        longest = max(len(path) for path in paths)
        padded = [[*path, *[0] * (longest - len(path))] for path in paths]
        slots = torch.tensor(padded, dtype=torch.int64, device=device).flatten()
        for layer, kept in cache.layers.items():
            if layer not in self._layers:
                shapes = [(len(self), one.shape[1], self.width, one.shape[2]) for one in kept]
                key, value = (one.new_zeros(shape) for one, shape in zip(kept, shapes, strict=True))
                self._layers[layer] = key, value
            for window, one in zip(self._layers[layer], kept, strict=True):
                found = one.index_select(0, slots).view(len(paths), longest, *one.shape[1:])
                window[:, :, :longest] = found.transpose(1, 2)

    def store(
        self, cache: KVCache, first_slot: int, rows: Sequence[int], positions: Sequence[int]
    ) -> None:
        """Copy single positions of rows to a cache, from slot `first_slot` on."""
        device = self.positions.device
        at, where = (
            torch.tensor(one, dtype=torch.int64, device=device) for one in (rows, positions)
        )
        for layer, (key, value) in self._layers.items():
            cache.extend(layer, first_slot, key[at, :, where], value[at, :, where])

    def begin_pass(self) -> None:
        """The biases depend on the positions of the new tokens."""
        self._biases = {}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scoring: AttentionScoring,
        sliding_window: int | None,
    ) -> torch.Tensor:
        """Store the new tokens' keys and values, and attend: see `packed_attention`."""
        keys, values = self._layers[layer]
        keys[self._rows, :, self.positions] = key.squeeze(0).transpose(0, 1).to(keys.dtype)
        values[self._rows, :, self.positions] = value.squeeze(0).transpose(0, 1).to(values.dtype)
        heads, rows, dim = query.shape[1:]
        # Query heads that share a key head are rows of one matrix: keys are not repeated.
        q = query.squeeze(0).transpose(0, 1).reshape(rows, keys.shape[1], -1, dim)
        dtype = keys.dtype if scoring.plain else torch.float32
        bias = self._bias(sliding_window, dtype)
        out = attend_masked(q.to(keys.dtype), keys, values, bias, scoring)
        return out.reshape(1, rows, heads, -1).to(query.dtype)

    def _bias(self, sliding_window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """0 where a row's new token sees a position, else -inf: `[B, 1, 1, W]`."""
        made = self._biases.get((sliding_window, dtype))
        if made is None:
            new = self.positions[:, None]
            seen = self._keys <= new
            if sliding_window is not None:
                seen = seen & (self._keys > new - sliding_window)
            made = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            made = made.masked_fill(~seen, float("-inf"))[:, None, None]
            self._biases[sliding_window, dtype] = made
        return made

    @staticmethod
    def nbytes(cache: KVCache, rows: int, width: int) -> int:
        """Bytes of windows for what a cache holds."""
        return sum(rows * width * one[0].nbytes for kept in cache.layers.values() for one in kept)


class StaticDecoder:
    """Passes of one token per row; on CUDA, from the second one on, replays of a graph."""

    def __init__(self, engine: DecodingEngine, routes: Routes, width: int) -> None:
        rows = routes[-1][2]
        self.routes = routes
        self.windows = Windows(rows, width, engine.device)
        self._engine = engine
        self._tokens = torch.zeros(rows, dtype=torch.int64, device=engine.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._hidden: torch.Tensor | None = None
        self._passes = 0

    def fits(self, needed: Routes, width: int) -> bool:
        """Whether there is a row for every conversation of each adapter, wide enough."""
        if width > self.windows.width or len(needed) != len(self.routes):
            return False
        return all(
            name == other and end - first <= last - begin
            for (name, first, end), (other, begin, last) in zip(needed, self.routes, strict=True)
        )

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        """Hidden states `[B, H]` of one token per row at a position; overwritten by the next."""
        both = torch.tensor([tokens, positions], dtype=torch.int64)
        if self._engine.device.type == "cuda":
            both = both.pin_memory().to(self._engine.device, non_blocking=True)
        self._tokens.copy_(both[0])
        self.windows.positions.copy_(both[1])
        self._passes += 1
        # The first pass runs as it is: libraries must not initialize themselves while a graph is
        # recorded.
        if self._engine.cuda_graphs and self._passes > 1:
            if self._graph is None:
                self._record()
            if self._graph is not None:
                self._graph.replay()
                assert self._hidden is not None
                return self._hidden
        return self._forward()

    def _forward(self) -> torch.Tensor:
        self.windows.begin_pass()
        return self._engine.decode_step(
            self._tokens, self.windows.positions, self.routes, self.windows
        )

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._hidden = self._forward()
        except RuntimeError:  # A model that reads a number back while it computes.
            self._engine.cuda_graphs = False
            return
        self._graph = graph


class Decoding:
    """Samples the answers of a session with a `StaticDecoder`, which it keeps for the next ones."""

    def __init__(self, engine: DecodingEngine, tree: PrefixTree, cache: KVCache) -> None:
        self._engine = engine
        self._tree = tree
        self._cache = cache
        self._decoder: StaticDecoder | None = None

    def pays(self, answers: Sequence[SamplingState]) -> bool:
        """Whether so many tokens are missing that windows save time, and there is room for them."""
        if max(answer.missing for answer in answers) < MIN_TOKENS:
            return False
        if self._engine.device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self._engine.device)
        reserved = torch.cuda.memory_reserved(self._engine.device)
        free += reserved - torch.cuda.memory_allocated(self._engine.device)
        needed = Windows.nbytes(self._cache, len(answers), _width(answers))
        return needed < MEMORY_SHARE * free

    def run(self, answers: Sequence[SamplingState], allow_pause: bool) -> None:
        """Sample until every answer has stopped or, with `allow_pause`, may pause.

        Answers are grouped by adapter; each conversation has some computed tokens and at least one
        that is not.
        """
        live = list(answers)
        while live:
            live = self._run_window(live, allow_pause)

    def _run_window(self, answers: list[SamplingState], allow_pause: bool) -> list[SamplingState]:
        """The same, until a window is full: returns the answers that go on."""
        decoder, rows = self._decoder_for(answers)
        windows = decoder.windows
        talks = {row: answer.request.conversation for row, answer in rows.items()}
        paths = [talks[row]._slots if row in talks else [] for row in range(len(windows))]
        windows.load(self._cache, paths)
        computed = [len(path) for path in paths]
        live = dict(rows)
        while live and all(computed[row] < windows.width for row in live):
            # An idle row computes its last token again, which changes nothing.
            tokens, positions = [0] * len(windows), [0] * len(windows)
            for row, talk in talks.items():
                positions[row] = computed[row] - (row not in live)
                tokens[row] = talk.ids[positions[row]]
            if self._engine.context_limit.is_hard:
                self._engine.context_limit.check(max(positions) + 1, "a conversation has")
            hidden = decoder.step(tokens, positions)
            self._engine.tokens_computed += len(live)
            for row in live:
                computed[row] += 1
            ready = [row for row in live if computed[row] == len(talks[row].ids)]
            if ready:
                self._sample(hidden, decoder.routes, ready, [live[row] for row in ready])
            for row in ready:
                answer = live[row]
                if answer.stop or (allow_pause and answer.may_pause):
                    del live[row]
        self._keep(windows, talks, computed)
        return list(live.values())

    def _sample(
        self,
        hidden: torch.Tensor,
        routes: Routes,
        rows: Sequence[int],
        answers: Sequence[SamplingState],
    ) -> None:
        place = torch.tensor(rows, device=hidden.device)
        found = hidden.index_select(0, place)
        if not torch.isfinite(found).all():
            self._engine.refuse_infinite(hidden, routes)
        tokens, logprobs = sample_tokens(
            self._engine.head,
            found,
            range(len(rows)),
            [answer.request.temperature for answer in answers],
            [answer.request.rng.random() for answer in answers],
            [answer.mask for answer in answers],
        )
        for answer, token, logprob in zip(answers, tokens, logprobs, strict=True):
            answer.accept(token, logprob)

    def _decoder_for(
        self, answers: Sequence[SamplingState]
    ) -> tuple[StaticDecoder, dict[int, SamplingState]]:
        """A decoder with a row for each answer, and the rows."""
        needed = _routes([answer.request.conversation.adapter for answer in answers])
        width = _width(answers)
        if self._decoder is None or not self._decoder.fits(needed, width):
            self._decoder = None  # Its memory is free before there is another.
            self._decoder = StaticDecoder(self._engine, needed, width)
        rows = {
            row: answer
            for (_, first, end), (_, begin, _) in zip(needed, self._decoder.routes, strict=True)
            for row, answer in zip(
                range(begin, begin + end - first), answers[first:end], strict=True
            )
        }
        return self._decoder, rows

    def _keep(
        self, windows: Windows, talks: Mapping[int, Conversation], computed: Sequence[int]
    ) -> None:
        """Put the computed tokens into the tree and the cache; equal conversations share slots."""
        first_slot = self._tree.size
        rows: list[int] = []
        positions: list[int] = []
        for row, talk in talks.items():
            start, end = len(talk._slots), computed[row]
            slots, known = self._tree.insert(talk._slots[-1], talk.ids[start:end])
            talk._slots.extend(slots)
            positions += range(start + known, end)
            rows += [row] * (end - start - known)
        if rows:
            windows.store(self._cache, first_slot, rows, positions)


def _routes(adapters: Sequence[str | None]) -> Routes:
    """The rows of each adapter; equal ones follow each other."""
    routes: list[tuple[str | None, int, int]] = []
    for row, name in enumerate(adapters):
        if routes and routes[-1][0] == name:
            routes[-1] = (name, routes[-1][1], row + 1)
        else:
            routes.append((name, row, row + 1))
    return tuple(routes)


def _width(answers: Sequence[SamplingState]) -> int:
    """Positions for the longest conversation and its answer."""
    longest = max(len(answer.request.conversation.ids) + answer.missing for answer in answers)
    return -(-(longest + 1) // WINDOW_STEP) * WINDOW_STEP
