"""Text from a vLLM server: what arrives is what the local engine would have sampled from."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from comity.engines.chat import ChatFormat
from comity.engines.grammar import GrammarCompiler
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.engines.local.sampling import Sample, SampleRequest
from comity.engines.local.scoring import Answers
from comity.engines.local.session import ScoreRequest
from comity.engines.token_masks import apply_masks
from comity.engines.vllm.adapters import ServedAdapters, served_name
from comity.engines.vllm.check import check_server
from comity.engines.vllm.client import VllmClient
from comity.engines.vllm.sampler import VllmSampler
from comity.engines.vllm.server import VllmServer
from comity.errors import ComityError, WorkError
from tests.vllm_twin import VllmTwin, serving

PATTERN = r"<answer>(A|B)[a-z ]{0,5}</answer>"
PROMPT = "You play a game. What do you choose?"
NEAR = 1e-3
"""How near log-probabilities are in float32: other batches, other orders of summation."""


class World:
    """An engine that samples on a twin, and the twin."""

    def __init__(self, folder: Path, url: str, twin: VllmTwin | None, served: Path) -> None:
        self._twin = twin
        self.engine = Engine(load_model(str(folder), "float32", "cpu"))
        self.chat = ChatFormat.from_tokenizer(load_tokenizer(str(folder)))
        self.grammars = GrammarCompiler(self.chat)
        self.client = VllmClient(url)
        self.sampler = VllmSampler(self.client, ServedAdapters(self.client, "base", served, kept=2))
        self.engine.text_sampler = partial(self.sampler.sample, self.engine)

    def add(self, name: str, seed: int) -> None:
        """A new adapter that changes what the model says."""
        self.engine.adapters.add(name, rank=4, seed=seed)
        self.change(name, seed)

    @property
    def twin(self) -> VllmTwin:
        assert self._twin is not None
        return self._twin

    def change(self, name: str, seed: int, size: float = 0.2) -> None:
        drawn = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weights in self.engine.adapters.parameters(name).values():
                weights.add_(size * torch.randn(weights.shape, generator=drawn))

    def request(
        self, session: Any, seed: int, pattern: str | None, adapter: str | None = None
    ) -> Any:
        conversation = session.conversation(adapter)
        conversation.append(self.chat.encode_first_prompt(PROMPT))
        matcher = None if pattern is None else self.grammars.compile(pattern).start()
        return SampleRequest(
            conversation,
            12,
            frozenset(self.chat.end_ids),
            np.random.default_rng(seed),
            0.8,
            matcher=matcher,
            closing=tuple(self.chat.encode_text("</answer>")) if pattern else (),
        )

    def sample(self, seeds: range, pattern: str | None, adapter: str | None = None) -> list[Any]:
        """(request, sample) of every seed, in one batch."""
        session = self.engine.session()
        requests = [self.request(session, seed, pattern, adapter) for seed in seeds]
        return list(zip(requests, session.sample(requests), strict=True))

    def plain_logprobs(self, request: SampleRequest, sample: Sample) -> np.ndarray:
        """log-probability of every sampled token from a forward pass of the whole text."""
        ids, adapter = request.conversation.ids, request.conversation.adapter
        start = len(self.chat.encode_first_prompt(PROMPT))
        states = self.engine.hidden_states([ids], adapter, gradients=False)
        rows = [states.rows[0][start + offset - 1] for offset in sample.offsets]
        logits = self.engine.head.logits(states.hidden[rows]) / request.temperature
        table = torch.log_softmax(apply_masks(logits, sample.masks), dim=-1)
        return table.gather(1, torch.tensor(sample.ids)[:, None]).squeeze(1).detach().numpy()


@pytest.fixture
def world(tiny_model: Callable[[str], Path], tmp_path: Path) -> Iterator[World]:
    folder = tiny_model("llama")
    behind = Engine(load_model(str(folder), "float32", "cpu"))
    chat = ChatFormat.from_tokenizer(load_tokenizer(str(folder)))
    twin = VllmTwin(behind, GrammarCompiler(chat))
    with serving(twin) as url:
        found = World(folder, url, twin, tmp_path / "served")
        yield found
        found.client.close()


@pytest.mark.parametrize("pattern", [None, PATTERN])
@pytest.mark.parametrize("adapter", [None, "learner"])
def test_log_probabilities_are_those_of_a_plain_forward(
    world: World, pattern: str | None, adapter: str | None
) -> None:
    if adapter is not None:
        world.add(adapter, 1)
    for request, sample in world.sample(range(6), pattern, adapter):
        np.testing.assert_allclose(
            sample.logprobs, world.plain_logprobs(request, sample), atol=NEAR
        )
        text = world.chat.answer_text(
            request.conversation.ids[len(world.chat.encode_first_prompt(PROMPT)) :]
        )
        if pattern is not None:
            assert text.startswith("<answer>") and text.endswith("</answer>")
    assert world.sampler.completed_here == 0
    assert len(world.twin.bodies) == 6


def test_forced_tokens_are_not_among_the_sampled(world: World) -> None:
    for request, sample in world.sample(range(4), PATTERN):
        start = len(world.chat.encode_first_prompt(PROMPT))
        answer = request.conversation.ids[start:]
        assert [answer[offset] for offset in sample.offsets] == sample.ids
        assert len(sample.ids) < len(answer)
        assert all(
            mask is not None and t in mask for t, mask in zip(sample.ids, sample.masks, strict=True)
        )


def test_conversations_keep_their_beginning_and_go_on(world: World) -> None:
    session = world.engine.session()
    request = world.request(session, 0, None)
    before = list(request.conversation.ids)
    session.sample([request])
    request.conversation.append(world.chat.encode_next_prompt("And now?", ended=False))
    longer = list(request.conversation.ids)
    assert longer[: len(before)] == before
    again = SampleRequest(
        request.conversation, 3, request.stop, np.random.default_rng(1), matcher=None
    )
    session.sample([again])
    assert world.twin.bodies[-1]["prompt"] == longer


def test_scored_answers_stay_here(world: World) -> None:
    session = world.engine.session()
    conversation = session.conversation(None)
    conversation.append(world.chat.encode_first_prompt(PROMPT))
    answers: Answers = ((5,), (6,))
    assert np.exp(session.score([ScoreRequest(conversation, answers)])[0]).sum() == pytest.approx(1)
    assert not world.twin.bodies


def test_what_the_server_divides_otherwise_is_completed_here(world: World) -> None:
    """From the first forced token on that differs; what was sampled before it is kept."""
    text = world.chat.encode_text("</answer>")
    whole = next(token for token in text if len(world.chat.decode([token])) > 1)
    letters = [world.chat.encode_text(letter)[0] for letter in world.chat.decode([whole])]
    world.twin.divide = {whole: letters}
    for request, sample in world.sample(range(4), PATTERN):
        np.testing.assert_allclose(
            sample.logprobs, world.plain_logprobs(request, sample), atol=NEAR
        )
        start = len(world.chat.encode_first_prompt(PROMPT))
        assert world.chat.answer_text(request.conversation.ids[start:]).endswith("</answer>")
    assert world.sampler.completed_here == 4


@pytest.mark.parametrize("pattern", [None, PATTERN])
def test_what_the_server_cut_is_completed_here(world: World, pattern: str | None) -> None:
    world.twin.cut = 3
    for request, sample in world.sample(range(4), pattern):
        assert sample.stop
        np.testing.assert_allclose(
            sample.logprobs, world.plain_logprobs(request, sample), atol=NEAR
        )
    assert world.sampler.completed_here > 0


def test_answers_have_the_frequencies_of_the_local_engine(world: World) -> None:
    """Server and process: the same distribution of first letters, and masks with the same sum."""
    seeds = range(120)
    there = [sample.ids[0] for _, sample in world.sample(seeds, PATTERN)]
    world.engine.text_sampler = None
    here = world.sample(seeds, PATTERN)
    request, sample = here[0]
    letters = sorted({one.ids[0] for _, one in here} | set(there))
    expected = {}
    for letter in letters:
        first = Sample([letter], [0.0], sample.offsets[:1], sample.masks[:1], "end")
        expected[letter] = float(np.exp(world.plain_logprobs(request, first)[0]))
    for letter, probability in expected.items():
        deviation = 4 * np.sqrt(max(probability * (1 - probability), 1e-3) / len(seeds))
        assert abs(np.mean([t == letter for t in there]) - probability) <= deviation


def test_an_update_is_seen_by_the_next_answer(world: World) -> None:
    world.add("learner", 1)
    world.sample(range(1), None, "learner")
    world.change("learner", 2)
    for request, sample in world.sample(range(3), None, "learner"):
        np.testing.assert_allclose(
            sample.logprobs, world.plain_logprobs(request, sample), atol=NEAR
        )
    assert len(set(world.twin.loaded)) == len(world.twin.loaded) == 2
    assert world.twin.loaded[-1] == served_name(world.engine, "learner")


def test_several_adapters_share_a_batch_and_old_ones_leave(world: World) -> None:
    names = ["learner", "other", "past:1"]
    for number, name in enumerate(names):
        world.add(name, number)
    session = world.engine.session()
    requests = [world.request(session, 0, None, name) for name in [*names, None]]
    for request, sample in zip(requests, session.sample(requests), strict=True):
        np.testing.assert_allclose(
            sample.logprobs, world.plain_logprobs(request, sample), atol=NEAR
        )
    world.change("learner", 7)
    world.sample(range(1), None, "learner")
    assert len(world.twin.engine.adapters.names) == 2  # `kept`
    # One that had to leave comes back when it is asked for.
    world.sample(range(1), None, "other")


def test_a_server_with_other_weights_is_refused(world: World) -> None:
    assert check_server(world.client, "base", world.engine) < NEAR
    with torch.no_grad():
        world.engine.head.weight.mul_(0.5)
    with pytest.raises(ComityError, match="another model"):
        check_server(world.client, "base", world.engine)


def test_a_server_that_is_no_vllm_is_refused(world: World) -> None:
    assert world.client.model() == "base"
    world.twin.owner = "llamacpp"
    with pytest.raises(ComityError, match="is not vLLM"):
        world.client.model()


def test_an_absent_server_is_one_line() -> None:
    client = VllmClient("http://127.0.0.1:9/v1")
    with pytest.raises(WorkError, match="cannot be reached"):
        client.model()
    client.close()


def test_what_the_server_refuses_is_quoted(world: World) -> None:
    with pytest.raises(WorkError, match="does not exist"):
        world.client.complete([{**_body(), "model": "nobody"}])


def _body() -> dict[str, Any]:
    return {
        "prompt": [1, 2],
        "max_tokens": 1,
        "seed": 0,
        "temperature": 1.0,
        "stop_token_ids": [],
    }


@pytest.mark.slow
def test_a_real_server(smollm2: Path, tmp_path: Path) -> None:
    """vLLM itself, from the environment that the variable names."""
    python = os.environ.get("COMITY_VLLM_PYTHON")
    if not python:
        pytest.skip("COMITY_VLLM_PYTHON names no environment with vLLM")
    server = VllmServer(
        python,
        smollm2,
        dtype="float32",
        log=tmp_path / "log",
        rank=4,
        adapters=1,
        options=["--max-model-len", "1024"],
    )
    try:
        world = World(smollm2, server.url, None, served=tmp_path / "served")
        check_server(world.client, world.client.model(), world.engine)
        world.engine.adapters.add("learner", rank=4, seed=1)
        for round_ in range(2):
            world.change("learner", round_, 0.02)
            for pattern in (None, PATTERN):
                for request, sample in world.sample(range(4), pattern, "learner"):
                    found = world.plain_logprobs(request, sample)
                    np.testing.assert_allclose(sample.logprobs, found, atol=0.01)
    finally:
        server.close()
