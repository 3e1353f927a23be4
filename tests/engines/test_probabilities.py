"""Probabilities are numbers, and as exact as float32 allows also where weights are bfloat16."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from comity.engines.local import scoring
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model
from comity.engines.local.sampling import SampleRequest, sample_tokens
from comity.engines.local.scoring import LMHead
from comity.engines.local.sequence_probabilities import sequence_logprobs
from comity.engines.local.session import ScoreRequest
from comity.errors import ComityError, WorkError
from tests.tiny import make_tiny

IDS = [int(token) for token in np.random.default_rng(0).integers(3, 300, 20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny("llama", tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture
def rounded(folder: Path) -> Engine:
    """Weights in bfloat16."""
    return Engine(load_model(str(folder), "bfloat16", "cpu"))


def hidden_states(rows: int, head: LMHead) -> torch.Tensor:
    """In bfloat16, so large that logits reach 30: bfloat16 keeps them to an eighth."""
    generator = torch.Generator().manual_seed(1)
    return (8 * torch.randn((rows, head.weight.shape[1]), generator=generator)).bfloat16()


def exact(head: LMHead, hidden: torch.Tensor) -> torch.Tensor:
    """float64 log-probabilities `[R, vocabulary]` of the same rounded numbers."""
    return torch.log_softmax(hidden.double() @ head.weight.double().t(), dim=-1)


@pytest.mark.parametrize("rows", [1, 5, scoring.FEW_ROWS + 9])
@pytest.mark.parametrize("learning", [False, True])
def test_probabilities_of_tokens_are_not_rounded(
    rows: int, learning: bool, rounded: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunk by chunk, also with a graph; values, entropies and gradients."""
    monkeypatch.setattr(scoring, "CAST_ROWS", 100)
    head = rounded.head
    hidden = hidden_states(rows, head)
    tokens = torch.arange(rows) * 7 % head.vocabulary
    wanted = exact(head, hidden)
    assert wanted.abs().max() > 20
    logprobs, entropy = head.token_logprobs(hidden.requires_grad_(learning), tokens)
    assert logprobs.dtype == torch.float32
    chosen = wanted.gather(1, tokens[:, None]).squeeze(1)
    np.testing.assert_allclose(logprobs.detach(), chosen, atol=1e-4)
    np.testing.assert_allclose(entropy.detach(), -(wanted.exp() * wanted).sum(dim=1), atol=1e-4)
    if learning:
        (found,) = torch.autograd.grad(logprobs.sum(), hidden)
        point = hidden.detach().double().requires_grad_()
        logits = torch.log_softmax(point @ head.weight.double().t(), dim=-1)
        (slope,) = torch.autograd.grad(logits.gather(1, tokens[:, None]).sum(), point)
        assert torch.allclose(found.double(), slope, atol=0.02 * float(slope.abs().max()))


def test_sampled_tokens_have_the_exact_probability(rounded: Engine) -> None:
    hidden = hidden_states(6, rounded.head)
    points = np.linspace(0.05, 0.95, 6).tolist()
    tokens, logprobs = sample_tokens(rounded.head, hidden, range(6), [1.0] * 6, points, [None] * 6)
    wanted = exact(rounded.head, hidden)
    np.testing.assert_allclose(logprobs, wanted[range(6), tokens], atol=1e-4)


def test_log_odds_of_whole_sequences_are_not_rounded(rounded: Engine) -> None:
    """Of 20 questions; logits beyond 16 would lie on a grid of eighths."""
    rounded.head.weight.data.mul_(16)
    rng = np.random.default_rng(2)
    contexts = [rng.integers(3, 300, 15).tolist() for _ in range(20)]
    found = sequence_logprobs(rounded, contexts, [[[40], [41]]] * 20, None)
    states = rounded.hidden_states(contexts, None, gradients=False)
    wanted = exact(rounded.head, states.hidden[[rows[-1] for rows in states.rows]])
    np.testing.assert_allclose(
        [[float(one[0]), float(other[0])] for one, other in found], wanted[:, 40:42], atol=1e-3
    )


# Not finite


def poison(engine: Engine, adapter: str) -> None:
    next(iter(engine.adapters.parameters(adapter).values())).data[0, 0] = float("nan")


def score(engine: Engine) -> None:
    """Beside a conversation of an adapter that is well."""
    session = engine.session()
    talks = [session.conversation(name) for name in ("good", "bad")]
    for talk in talks:
        talk.append(IDS)
    session.score([ScoreRequest(talk, ((40,), (41,))) for talk in talks])


def sample(engine: Engine) -> None:
    session = engine.session()
    talk = session.conversation("bad")
    talk.append(IDS)
    session.sample([SampleRequest(talk, 3, frozenset(), np.random.default_rng(0))])


def learn(engine: Engine) -> None:
    engine.hidden_states([IDS], "bad")


def shared_prefix(engine: Engine) -> None:
    engine.shared_prefix(IDS, "bad")


def sequences(engine: Engine) -> None:
    sequence_logprobs(engine, [IDS], [[[40], [41, 42]]], "bad")


PATHS = [score, sample, learn, shared_prefix, sequences]


@pytest.mark.parametrize("path", PATHS)
def test_an_adapter_whose_outputs_are_no_numbers_is_refused_by_name(
    path: Callable[[Engine], None], folder: Path
) -> None:
    engine = Engine(load_model(str(folder), "float32", "cpu"))
    for name in ("good", "bad"):
        engine.adapters.add(name, rank=2)
    path(engine)
    poison(engine, "bad")
    with pytest.raises(WorkError, match="the adapter 'bad' gives values that are not finite"):
        path(engine)


@pytest.mark.parametrize("path", PATHS)
def test_an_output_layer_that_gives_no_numbers_is_refused(
    path: Callable[[Engine], None], folder: Path
) -> None:
    """One infinite number; learning sees it where probabilities are made."""
    engine = Engine(load_model(str(folder), "float32", "cpu"))
    for name in ("good", "bad"):
        engine.adapters.add(name, rank=2)
    engine.model.lm_head.weight.data[7, 3] = float("inf")
    with pytest.raises(WorkError, match="not finite"):
        if path in (learn, shared_prefix):
            hidden = engine.hidden_states([IDS[:5]], "good").hidden
            engine.head.token_logprobs(hidden, torch.tensor(IDS[1:6]))
        else:
            path(engine)


def filled(folder: Path, value: float, place: Path) -> Engine:
    """An engine whose adapter with this number everywhere is saved in `place`."""
    engine = Engine(load_model(str(folder), "float32", "cpu"))
    engine.adapters.add("good", rank=2)
    for parameter in engine.adapters.parameters("good").values():
        parameter.data.fill_(value)
    engine.adapters.save("good", place)
    return engine


@pytest.mark.parametrize("value", [1e30, 1e12])
def test_an_adapter_of_huge_numbers_is_not_loaded(
    folder: Path, tmp_path: Path, value: float
) -> None:
    engine = filled(folder, value, tmp_path)
    with pytest.raises(ComityError, match="too large to compute with"):
        engine.adapters.load("bad", tmp_path)


def test_an_adapter_of_large_numbers_is_loaded_and_computed(folder: Path, tmp_path: Path) -> None:
    engine = filled(folder, 30.0, tmp_path)
    engine.adapters.load("bad", tmp_path)
    sample(engine)


def test_where_a_loaded_adapter_came_from_is_said(folder: Path, tmp_path: Path) -> None:
    """Finite numbers that overflow, of an adapter that was in order when it was loaded."""
    engine = filled(folder, 1.0, tmp_path)
    engine.adapters.load("bad", tmp_path)
    for parameter in engine.adapters.parameters("bad").values():
        parameter.data.fill_(1e30)
    with pytest.raises(ComityError, match=f"'bad' .loaded from {tmp_path}. gives values"):
        sample(engine)
