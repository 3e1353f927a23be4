"""The GPU computes what the CPU computes: probabilities, samples, gradients, updates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model
from comity.engines.local.sampling import Sample, SampleRequest
from comity.engines.local.session import ScoreRequest
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.training_batch import TrainedDecision, TrainingSequence
from tests.tiny import ARCHITECTURES
from tests.worlds import tiny_folder

ANSWERS = ((40,), (41, 42), (43, 44, 45))
ADAPTERS = ("one", "two")


def tiny_engine(architecture: str, device: str, dtype: str = "float32") -> Engine:
    """The same weights and adapters on every device."""
    engine = Engine(load_model(str(tiny_folder(architecture)), dtype, device))
    for i, name in enumerate(ADAPTERS):
        engine.adapters.add(name, rank=4, alpha=8, seed=i)
        generator = torch.Generator().manual_seed(50 + i)
        for parameter in engine.adapters.parameters(name).values():
            values = torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.data.copy_(values)
    return engine


def prompts(count: int = 6, length: int = 30) -> list[list[int]]:
    """A common beginning of ten tokens, then different ones of different lengths."""
    rng = np.random.default_rng(0)
    common = rng.integers(3, 300, 10).tolist()
    return [common + rng.integers(3, 300, length + 7 * i).tolist() for i in range(count)]


def scores(engine: Engine) -> np.ndarray:
    """Log-probabilities of legal answers under no adapter and two, with a second round."""
    session = engine.session()
    talks = [session.conversation((None, *ADAPTERS)[i % 3]) for i, _ in enumerate(prompts())]
    found = []
    for _ in range(2):
        for talk, ids in zip(talks, prompts(), strict=True):
            talk.append(ids)
        found.append(session.score([ScoreRequest(talk, ANSWERS, 0.8) for talk in talks]))
    return np.array(found)


def samples(engine: Engine, tokens: int = 24) -> list[Sample]:
    session = engine.session()
    requests = []
    for i, ids in enumerate(prompts()):
        talk = session.conversation((None, *ADAPTERS)[i % 3])
        talk.append(ids)
        rng = np.random.default_rng(i)
        requests.append(SampleRequest(talk, tokens - 3 * i, frozenset({5}), rng, 0.9))
    return session.sample(requests)


def sequences(found: Sequence[Sample]) -> list[TrainingSequence]:
    """The samples of adapter "one" as sampled decisions, and its scored ones."""
    rng = np.random.default_rng(7)
    made = []
    for i, (ids, one) in enumerate(zip(prompts(), found, strict=True)):
        text = TrainedDecision(
            len(ids),
            tuple(one.ids),
            (),
            tuple(one.logprobs),
            float(rng.normal()),
            offsets=tuple(one.offsets),
            source=2 * i,
        )
        made.append(TrainingSequence((*ids, *one.ids), (text,)))
        chosen = ANSWERS[i % 3]
        scored = TrainedDecision(
            len(ids), chosen, ANSWERS, (-1.0,), float(rng.normal()), source=2 * i + 1
        )
        made.append(TrainingSequence((*ids, *chosen), (scored,)))
    return made


def gradients(engine: Engine, batch: list[TrainingSequence], budget: int) -> dict[str, Any]:
    learner = Learner(
        engine,
        "one",
        OptimizerSettings(learning_rate=0.01),
        LossSettings(entropy=0.1, kl=0.1),
        10,
        budget,
    )
    learner.accumulate_gradients(batch)
    return {name: p.grad.cpu() for name, p in learner.parameters.items() if p.grad is not None}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_legal_answers_have_the_probabilities_of_the_cpu(architecture: str, device: str) -> None:
    wanted = scores(tiny_engine(architecture, "cpu"))
    np.testing.assert_allclose(scores(tiny_engine(architecture, device)), wanted, atol=2e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sampled_text_is_that_of_the_cpu(architecture: str, device: str) -> None:
    """The same uniform numbers are inverted on both: the same tokens."""
    wanted, found = (samples(tiny_engine(architecture, place)) for place in ("cpu", device))
    assert [one.ids for one in found] == [one.ids for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=2e-4)


@pytest.mark.parametrize("budget", [10_000, 120])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_those_of_the_cpu(architecture: str, budget: int, device: str) -> None:
    batch = sequences(samples(tiny_engine(architecture, "cpu")))
    wanted, found = (
        gradients(tiny_engine(architecture, place), batch, budget) for place in ("cpu", device)
    )
    assert wanted.keys() == found.keys() and len(wanted) > 8
    for name, gradient in wanted.items():
        scale = float(gradient.norm())
        assert float((found[name] - gradient).norm()) < 2e-3 * scale + 1e-6, name


def test_bfloat16_learns_what_it_played(device: str) -> None:
    """Behaviour probabilities of play and the update's first reading agree."""
    engine = tiny_engine("llama", device, "bfloat16")
    learner = Learner(
        engine, "one", OptimizerSettings(learning_rate=0.01), LossSettings(), 10, 10_000
    )
    session = engine.session()
    requests = []
    for i, ids in enumerate(prompts()):
        talk = session.conversation("one")
        talk.append(ids)
        requests.append(SampleRequest(talk, 20, frozenset({5}), np.random.default_rng(i)))
    row = learner.update(
        [s for s in sequences(session.sample(requests)) if not s.decisions[0].answers]
    )
    assert row["importance_mean"] == pytest.approx(1, abs=0.1)
