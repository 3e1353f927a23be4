"""Passes of one shape sample what packed passes sample, and leave the same session behind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from comity.engines.chat import ChatFormat
from comity.engines.grammar import GrammarCompiler
from comity.engines.local import decoding
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.engines.local.sampling import Sample, SampleRequest
from comity.engines.local.session import ScoreRequest, Session
from comity.errors import ComityError, WorkError
from tests.tiny import ARCHITECTURES

ANSWERS = ((40,), (41, 42), (43, 44, 45))
ADAPTERS = (None, "one", "two")


def engine_of(folder: Path, static: bool) -> Engine:
    engine = Engine(load_model(str(folder), "float32", "cpu"))
    engine.static_decoding = static
    for i, name in enumerate(("one", "two")):
        engine.adapters.add(name, rank=4, alpha=8, seed=i)
        generator = torch.Generator().manual_seed(50 + i)
        for parameter in engine.adapters.parameters(name).values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return engine


def two_rounds(
    engine: Engine, tokens: int = 20, pause: bool = False
) -> tuple[list[Sample], np.ndarray, Session]:
    """Two answers of eight conversations, two of them equal, and a scored answer after each."""
    rng = np.random.default_rng(0)
    common = rng.integers(3, 300, 10).tolist()
    session = engine.session()
    talks = [session.conversation(ADAPTERS[i % 3]) for i in range(8)]
    samples: list[Sample] = []
    scores = []
    for round_ in range(2):
        requests = []
        for i, talk in enumerate(talks):
            if i == 3:  # It repeats what the first of its adapter said and heard.
                talk.append(talks[0].ids[len(talk.ids) : len(talks[0].ids)])
            else:
                talk.append(common + rng.integers(3, 300, 20 + 5 * i).tolist())
            own = np.random.default_rng(100 * round_ + (0 if i == 3 else i))
            stop = frozenset({5, 6, 7}) if i % 2 else frozenset({5})
            requests.append(SampleRequest(talk, tokens - i % 4, stop, own, 0.9))
        samples += session.sample(requests)
        found = session.score([ScoreRequest(talk, ANSWERS, 0.8) for talk in talks])
        scores.append(np.array(found))
    return samples, np.array(scores), session


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every pass of one shape."""
    seen: list[int] = []
    step = decoding.StaticDecoder.step

    def counted(self: decoding.StaticDecoder, tokens: object, positions: object) -> torch.Tensor:
        seen.append(len(self.windows))
        return step(self, tokens, positions)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding.StaticDecoder, "step", counted)
    return seen


@pytest.mark.parametrize("window", [8, 256])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_samples_are_those_of_packed_passes(
    architecture: str,
    window: int,
    tiny_model: Callable[[str], Path],
    passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With several adapters in a batch; and the session can be scored and sampled again after it.

    A window that is too small for all is made larger on the way.
    """
    monkeypatch.setattr(decoding, "WINDOW_STEP", window)
    if window == 8:  # As if nothing were known of the tokens to come.
        monkeypatch.setattr(decoding.SamplingState, "missing", property(lambda _: 9))
    wanted, exact, plain = two_rounds(engine_of(tiny_model(architecture), static=False))
    assert not passes
    found, scores, session = two_rounds(engine_of(tiny_model(architecture), static=True))
    assert len(passes) >= 20
    for one, other in zip(found, wanted, strict=True):
        assert (one.ids, one.offsets, one.stop) == (other.ids, other.offsets, other.stop)
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)
    np.testing.assert_allclose(scores, exact, atol=1e-4)
    # Equal conversations share their slots, and nothing is in the session twice.
    assert session.tokens == plain.tokens


def test_forced_tokens_are_computed_and_not_sampled(
    tiny_model: Callable[[str], Path], passes: list[int]
) -> None:
    """A grammar with a forced middle: the rows that wait for it go on afterwards."""

    def run(static: bool) -> list[Sample]:
        engine = engine_of(tiny_model("llama"), static)
        chat = ChatFormat.from_tokenizer(load_tokenizer(str(tiny_model("llama"))))
        grammars = GrammarCompiler(chat, engine.head.vocabulary)
        session = engine.session()
        requests = []
        for i in range(4):
            talk = session.conversation(ADAPTERS[i % 3])
            talk.append(list(range(20, 40 + i)))
            pattern = r"[ab]{12} and then [0-9]{3,20}" if i % 2 else r"[a-z ]{30}"
            requests.append(
                SampleRequest(
                    talk,
                    30,
                    frozenset(),
                    np.random.default_rng(i),
                    1.0,
                    grammars.compile(pattern).start(),
                )
            )
        return session.sample(sorted(requests, key=lambda r: r.conversation.adapter or ""))

    wanted, found = run(False), run(True)
    assert passes and any(
        later - offset > 1
        for one in found
        for offset, later in zip(one.offsets, one.offsets[1:], strict=False)
    )
    for one, other in zip(found, wanted, strict=True):
        assert (one.ids, one.offsets, one.stop) == (other.ids, other.offsets, other.stop)
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_weights_that_are_not_finite_are_named(tiny_model: Callable[[str], Path]) -> None:
    """Also where they appear only while decoding."""
    engine = engine_of(tiny_model("llama"), static=True)
    session = engine.session()
    talk = session.conversation("one")
    talk.append(list(range(20, 40)))
    request = SampleRequest(talk, 20, frozenset(), np.random.default_rng(0))
    step = engine.decode_step

    def broken(*arguments: object) -> torch.Tensor:
        return step(*arguments) * float("nan")  # type: ignore[arg-type]

    engine.decode_step = broken  # type: ignore[method-assign,assignment]
    with pytest.raises(WorkError, match="the adapter 'one' gives values that are not finite"):
        session.sample([request])


def test_learned_positions_end(tiny_model: Callable[[str], Path]) -> None:
    engine = engine_of(tiny_model("gpt2"), static=True)
    session = engine.session()
    talk = session.conversation(None)
    talk.append([20] * 1015)
    with pytest.raises(ComityError, match="the model has 1024 positions"):
        session.sample([SampleRequest(talk, 20, frozenset(), np.random.default_rng(0))])


def test_seats_that_answer_in_turn_keep_their_decoders(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two adapters in turn, then one with fewer answers: no third set of windows."""
    made: list[object] = []
    begin = decoding.StaticDecoder.__init__

    def counted(self: decoding.StaticDecoder, *arguments: object) -> None:
        made.append(arguments[1])
        begin(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding.StaticDecoder, "__init__", counted)
    engine = engine_of(tiny_model("llama"), static=True)
    session = engine.session()
    for round_, (adapter, count) in enumerate([("one", 4), ("two", 4), ("one", 4), ("two", 2)]):
        requests = []
        for i in range(count):
            talk = session.conversation(adapter)
            talk.append(list(range(20 + i, 40 + i)))
            rng = np.random.default_rng(10 * round_ + i)
            requests.append(SampleRequest(talk, 12, frozenset(), rng))
        session.sample(requests)
    assert made == [(("one", 0, 4),), (("two", 0, 4),)]
