"""Decoding token by token in passes that always have the same shape.

A packed pass suits whatever comes: new conversations, shared prefixes, answers of any length. Its
shapes change from pass to pass, and each pass launches some thousand small kernels one by one. On
a GPU that takes far longer than the arithmetic. While text is sampled, though, every conversation
needs one more token at a time. Here each of them has a row with a window of keys and values of
fixed size, so all passes are alike: on CUDA one is recorded as a graph, and replaying it is a
single launch.

`StaticDecoder` computes passes; `Decoding` samples answers with them, and puts what was computed
into the session's prefix tree and cache, where later passes find it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from comity.engines.local.context_limit import ContextLimit
from comity.engines.local.conversation import Conversation
from comity.engines.local.devices import free_bytes
from comity.engines.local.kv_cache import KVCache
from comity.engines.local.prefix_tree import PrefixTree
from comity.engines.local.sampling import SamplingState, sample_tokens
from comity.engines.local.scoring import LMHead
from comity.engines.local.windows import Windows

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
        self, tokens: torch.Tensor, positions: torch.Tensor, routes: Routes, context: Windows
    ) -> torch.Tensor:
        """Hidden states `[B, H]` of one token per row."""
        ...

    def refuse_infinite(self, hidden: torch.Tensor, routes: Routes) -> None:
        """Raises `WorkError` for hidden states that are not finite, naming their adapter."""
        ...


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
        """Whether there are so many rows of each adapter, wide enough; of the same adapters."""
        return width <= self.windows.width and all(
            end - first <= last - begin
            for (_, first, end), (_, begin, last) in zip(needed, self.routes, strict=True)
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
    """Samples the answers of a session with static decoders, which it keeps for the next ones."""

    def __init__(self, engine: DecodingEngine, tree: PrefixTree, cache: KVCache) -> None:
        self._engine = engine
        self._tree = tree
        self._cache = cache
        self._decoders: dict[tuple[str | None, ...], StaticDecoder] = {}
        """By the adapters of their rows: seats that answer in turn have one each."""

    def pays(self, answers: Sequence[SamplingState]) -> bool:
        """Whether so many tokens are missing that windows save time, and there is room for them."""
        if max(answer.missing for answer in answers) < MIN_TOKENS:
            return False
        if self._engine.device.type != "cuda" or self._decoder_for(answers) is not None:
            return True
        needed = Windows.nbytes(self._cache, len(answers), _width(answers))
        if needed > MEMORY_SHARE * free_bytes(self._engine.device):
            self._decoders.clear()
        return needed <= MEMORY_SHARE * free_bytes(self._engine.device)

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
        decoder, rows = self._placed(answers)
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

    def _decoder_for(self, answers: Sequence[SamplingState]) -> StaticDecoder | None:
        """The decoder with a wide row for each answer, if there is one."""
        needed = _routes(answers)
        found = self._decoders.get(_adapters(needed))
        return found if found is not None and found.fits(needed, _width(answers)) else None

    def _placed(
        self, answers: Sequence[SamplingState]
    ) -> tuple[StaticDecoder, dict[int, SamplingState]]:
        """A decoder with a row for each answer, and the rows."""
        needed = _routes(answers)
        decoder = self._decoder_for(answers)
        if decoder is None:
            self._decoders.pop(_adapters(needed), None)  # Its memory is free before the next one's.
            decoder = StaticDecoder(self._engine, needed, _width(answers))
            self._decoders[_adapters(needed)] = decoder
        rows = {
            begin + i: answer
            for (_, first, end), (_, begin, _) in zip(needed, decoder.routes, strict=True)
            for i, answer in enumerate(answers[first:end])
        }
        return decoder, rows

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


def _routes(answers: Sequence[SamplingState]) -> Routes:
    """The rows of each adapter, if every answer has one; equal adapters follow each other."""
    routes: list[tuple[str | None, int, int]] = []
    for row, answer in enumerate(answers):
        name = answer.request.conversation.adapter
        if routes and routes[-1][0] == name:
            routes[-1] = (name, routes[-1][1], row + 1)
        else:
            routes.append((name, row, row + 1))
    return tuple(routes)


def _adapters(routes: Routes) -> tuple[str | None, ...]:
    return tuple(name for name, _, _ in routes)


def _width(answers: Sequence[SamplingState]) -> int:
    """Positions for the longest conversation and its answer."""
    longest = max(len(answer.request.conversation.ids) + answer.missing for answer in answers)
    return -(-(longest + 1) // WINDOW_STEP) * WINDOW_STEP
