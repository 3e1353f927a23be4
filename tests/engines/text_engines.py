"""An engine that samples text by itself or on a server, and what a plain forward pass says.

The conformance suite (test_text_conformance.py) asks the same of all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

from comity.engines.chat import ChatFormat
from comity.engines.grammar import GrammarCompiler
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.engines.local.sampling import Sample, SampleRequest
from comity.engines.token_masks import apply_masks
from comity.engines.vllm.adapters import ServedAdapters
from comity.engines.vllm.client import ServedBase, VllmClient
from comity.engines.vllm.sampler import VllmSampler
from comity.engines.vllm.scorer import VllmScorer
from comity.engines.vllm.served_model import Reconnect, ServedModel
from tests.vllm_twin import VllmTwin, make_twin, serving

PATTERN = r"<answer>(A|B)[a-z ]{0,5}</answer>"
PROMPT = "You play a game. What do you choose?"
TEMPERATURE = 0.8


class World:
    """An engine in float32, and the requests that the tests make of it."""

    near = 1e-3
    """How near log-probabilities are: other batches, other orders of summation."""

    def __init__(self, folder: Path, change: float = 0.2) -> None:
        """`change`: size of an update of an adapter, of weights around 0.2."""
        self._folder = folder
        self._change = change
        self.engine = Engine(load_model(str(folder), "float32", "cpu"))
        self.chat = ChatFormat.from_tokenizer(load_tokenizer(str(folder)))
        self.grammars = GrammarCompiler(self.chat)
        self.prompt = self.chat.encode_first_prompt(PROMPT)

    def add(self, name: str, seed: int) -> None:
        """A new adapter that changes what the model says."""
        self.engine.adapters.add(name, rank=4, seed=seed)
        self.change(name, seed)

    def change(self, name: str, seed: int) -> None:
        """An update of an adapter."""
        drawn = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weights in self.engine.adapters.parameters(name).values():
                weights.add_(self._change * torch.randn(weights.shape, generator=drawn))

    def request(
        self, session: Any, seed: int, pattern: str | None, adapter: str | None = None
    ) -> SampleRequest:
        conversation = session.conversation(adapter)
        conversation.append(self.prompt)
        matcher = None if pattern is None else self.grammars.compile(pattern).start()
        return SampleRequest(
            conversation,
            12,
            frozenset(self.chat.end_ids),
            np.random.default_rng(seed),
            TEMPERATURE,
            matcher=matcher,
            closing=tuple(self.chat.encode_text("</answer>")) if pattern else (),
        )

    def sample(
        self, seeds: range, pattern: str | None, adapter: str | None = None
    ) -> list[tuple[SampleRequest, Sample]]:
        """The request and the sample of every seed, in one batch."""
        session = self.engine.session()
        requests = [self.request(session, seed, pattern, adapter) for seed in seeds]
        return list(zip(requests, session.sample(requests), strict=True))

    def answer(self, request: SampleRequest) -> list[int]:
        """The ids after the prompt."""
        assert request.conversation.ids[: len(self.prompt)] == self.prompt
        return request.conversation.ids[len(self.prompt) :]

    def plain(self, adapter: str | None) -> Callable[[Sequence[int]], torch.Tensor]:
        """Logits `[len(ids), vocabulary]` of a model of transformers (and PEFT)."""
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=torch.float32)
        if adapter is not None:
            saved = Path(mkdtemp())
            self.engine.adapters.save(adapter, saved)
            model = PeftModel.from_pretrained(model, str(saved))
        model.eval()

        @torch.no_grad()
        def logits(ids: Sequence[int]) -> torch.Tensor:
            found: torch.Tensor = model(input_ids=torch.tensor([list(ids)])).logits[0].float()
            return found

        return logits

    def assert_plain(
        self, samples: Sequence[tuple[SampleRequest, Sample]], adapter: str | None
    ) -> None:
        """Every sampled token's log-probability is that of a plain forward of the whole text."""
        plain = self.plain(adapter)
        for request, sample in samples:
            assert request.conversation.adapter == adapter
            answer = self.answer(request)
            assert [answer[offset] for offset in sample.offsets] == sample.ids
            table = plain(request.conversation.ids)
            rows = [len(self.prompt) + offset - 1 for offset in sample.offsets]
            found = token_logprobs(table[rows] / request.temperature, sample)
            np.testing.assert_allclose(sample.logprobs, found, atol=self.near)


def token_logprobs(logits: torch.Tensor, sample: Sample) -> np.ndarray:
    """log-probability of a sample's tokens under its masks, from `[tokens, vocabulary]`."""
    table = torch.log_softmax(apply_masks(logits, sample.masks), dim=-1)
    found: np.ndarray = table.gather(1, torch.tensor(sample.ids)[:, None]).squeeze(1).numpy()
    return found


class ServedWorld(World):
    """One that samples on a server, and scores there after `score_on_server`."""

    def __init__(
        self,
        folder: Path,
        url: str,
        served: Path,
        change: float = 0.2,
        reconnect: Reconnect | None = None,
    ) -> None:
        super().__init__(folder, change)
        self.client = VllmClient(url)
        self.folder = served
        self.adapters = ServedAdapters(self.client, "base", served, kept=2)
        self.served = ServedModel(self.client, self.adapters, reconnect)
        self.sampler, self.scorer = VllmSampler(self.served), VllmScorer(self.served)
        self.engine.text_sampler = partial(self.sampler.sample, self.engine)

    def score_on_server(self) -> None:
        self.engine.scorer = partial(self.scorer.score, self.engine)


class TwinWorld(ServedWorld):
    """One that samples on a twin of vLLM in this process."""

    def __init__(self, folder: Path, url: str, served: Path, twin: VllmTwin) -> None:
        self.twin = twin
        self.url = url
        self.restarts = 0
        super().__init__(folder, url, served, reconnect=self._reconnect)

    def _reconnect(self, error: Exception) -> tuple[VllmClient, ServedBase]:
        self.restarts += 1
        self.twin.failures -= 1
        return VllmClient(self.url), ServedBase("base")


@contextmanager
def twin_world(folder: Path, served: Path) -> Iterator[TwinWorld]:
    """A world with a twin that serves the model in `folder`."""
    twin = make_twin(folder)
    with serving(twin) as url:
        found = TwinWorld(folder, url, served, twin)
        yield found
        found.served.close()
