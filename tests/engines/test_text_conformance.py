"""What every engine that samples text must do: the same tests of each, by name.

`vllm-server` is vLLM itself, from the environment that COMITY_VLLM_PYTHON names, with the default
model; without the variable it is skipped.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from comity.engines.local.sampling import SampleRequest
from comity.engines.local.scoring import Answers, ScoreRequest
from comity.engines.vllm.check import check_server
from comity.engines.vllm.server import VllmServer
from tests.engines.text_engines import (
    PATTERN,
    TEMPERATURE,
    ServedWorld,
    World,
    token_logprobs,
    twin_world,
)

ENGINES = ("local", "vllm", pytest.param("vllm-server", marks=pytest.mark.slow))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """Starts vLLM for a model, once; its URL."""
    python = os.environ.get("COMITY_VLLM_PYTHON")
    started: list[VllmServer] = []

    def url(folder: Path) -> str:
        if not python:
            pytest.skip("COMITY_VLLM_PYTHON names no environment with vLLM")
        if not started:
            log = tmp_path_factory.mktemp("vllm") / "log"
            more = ["--max-model-len", "1024", "--enforce-eager"]
            started.append(
                VllmServer(
                    python, folder, dtype="float32", log=log, rank=4, adapters=4, options=more
                )
            )
        return started[0].url

    yield url
    for one in started:
        one.close()


@pytest.fixture(params=ENGINES)
def world(
    request: pytest.FixtureRequest,
    tiny_model: Callable[[str], Path],
    server: Callable[[Path], str],
    tmp_path: Path,
) -> Iterator[World]:
    if request.param == "local":
        yield World(tiny_model("llama"))
    elif request.param == "vllm":
        with twin_world(tiny_model("llama"), tmp_path / "served") as found:
            yield found
    else:
        folder: Path = request.getfixturevalue("smollm2")
        real = ServedWorld(folder, server(folder), tmp_path / "served", change=0.02)
        real.near = 0.01
        check_server(real.client, real.client.model(), real.engine)
        yield real
        real.served.close()


@pytest.mark.parametrize("pattern", [None, PATTERN])
@pytest.mark.parametrize("adapter", [None, "learner"])
def test_log_probabilities_are_those_of_a_plain_forward(
    world: World, pattern: str | None, adapter: str | None
) -> None:
    """Of the ids that the conversation has afterwards: what was told is what was computed."""
    if adapter is not None:
        world.add(adapter, 1)
    samples = world.sample(range(6), pattern, adapter)
    world.assert_plain(samples, adapter)
    for request, sample in samples:
        assert sample.stop and len(sample.ids) <= request.max_tokens
        if pattern is not None:
            text = world.chat.answer_text(world.answer(request))
            assert text.startswith("<answer>") and text.endswith("</answer>")


def test_forced_tokens_are_not_among_the_sampled(world: World) -> None:
    for request, sample in world.sample(range(4), PATTERN):
        assert len(sample.ids) < len(world.answer(request))
        assert all(
            mask is not None and t in mask for t, mask in zip(sample.ids, sample.masks, strict=True)
        )


def test_without_a_grammar_every_token_is_sampled(world: World) -> None:
    for request, sample in world.sample(range(4), None):
        assert sample.ids == world.answer(request)
        ended = sample.ids[-1] in request.stop
        assert sample.stopped == ended and (ended or len(sample.ids) == request.max_tokens)


def test_conversations_keep_their_beginning_and_go_on(world: World) -> None:
    session = world.engine.session()
    request = world.request(session, 0, None)
    session.sample([request])
    longer = list(request.conversation.ids)
    told = world.chat.encode_next_prompt("And now?", ended=False)
    request.conversation.append(told)
    again = SampleRequest(
        request.conversation, 3, request.stop, np.random.default_rng(1), TEMPERATURE
    )
    (sample,) = session.sample([again])
    ids = request.conversation.ids
    start = len(longer) + len(told)
    assert ids == [*longer, *told, *sample.ids]
    table = world.plain(None)(ids)[start - 1 : start - 1 + len(sample.ids)]
    np.testing.assert_allclose(
        sample.logprobs, token_logprobs(table / TEMPERATURE, sample), atol=world.near
    )


def test_several_adapters_share_a_batch(world: World) -> None:
    names = ["learner", "other", "past:1"]
    for number, name in enumerate(names):
        world.add(name, number)
    session = world.engine.session()
    requests = [world.request(session, 0, None, name) for name in [*names, None]]
    samples = list(zip(requests, session.sample(requests), strict=True))
    for sample, name in zip(samples, [*names, None], strict=True):
        world.assert_plain([sample], name)


def test_an_update_is_seen_by_the_next_answer(world: World) -> None:
    world.add("learner", 1)
    before = world.sample(range(3), None, "learner")
    world.assert_plain(before, "learner")
    world.change("learner", 2)
    world.assert_plain(world.sample(range(3), None, "learner"), "learner")
    # The update is large enough that old weights would be seen.
    with pytest.raises(AssertionError):
        world.assert_plain(before, "learner")


@pytest.mark.parametrize("pattern", [None, PATTERN])
def test_a_batch_with_the_same_seeds_has_the_same_answers(
    world: World, pattern: str | None
) -> None:
    """Alone on the engine; a server shared with others rounds in other ways."""
    one, other = (world.sample(range(4), pattern) for _ in range(2))
    assert [sample.ids for _, sample in one] == [sample.ids for _, sample in other]
    assert len({tuple(sample.ids) for _, sample in one}) > 1


def test_answers_follow_the_distribution(world: World) -> None:
    """First letters, under a grammar and at the requests' temperature."""
    found = world.sample(range(80), PATTERN)
    request, sample = found[0]
    rows = world.plain(None)(request.conversation.ids)
    place = len(world.prompt) + sample.offsets[0] - 1
    letters = {world.chat.encode_text(text)[-1] for text in ("<answer>A", "<answer>B")}
    assert {one.ids[0] for _, one in found} <= letters
    for letter in letters:
        first = type(sample)([letter], [0.0], sample.offsets[:1], sample.masks[:1], "end")
        p = float(np.exp(token_logprobs(rows[[place]] / TEMPERATURE, first)[0]))
        share = np.mean([one.ids[0] == letter for _, one in found])
        assert abs(share - p) <= 4 * np.sqrt(max(p * (1 - p), 1e-3) / len(found))


@pytest.mark.parametrize("where", ["local", "server"])
@pytest.mark.parametrize(
    "answers",
    [
        ((40,), (41,), (52,)),
        ((40,), (41, 50), (41, 60)),
        ((40, 7, 9), (40, 7, 8, 40), (41,), (42, 41)),
    ],
)
def test_scored_answers_have_the_probabilities_of_a_plain_forward(
    world: World, answers: Answers, where: str
) -> None:
    """Of one token, and of several; after an update, too."""
    if where == "server":
        if not isinstance(world, ServedWorld):
            pytest.skip("no server")
        world.score_on_server()
    world.add("learner", 1)
    before: np.ndarray | None = None
    for adapter in (None, "learner", "learner"):
        if before is not None and adapter == "learner":
            world.change("learner", 2)
        session = world.engine.session()
        conversation = session.conversation(adapter)
        conversation.append(world.prompt)
        (found,) = session.score([ScoreRequest(conversation, answers, TEMPERATURE)])
        plain = world.plain(adapter)
        wanted = np.array(
            [
                sum(
                    float(
                        (plain([*world.prompt, *answer[:n]])[-1] / TEMPERATURE).log_softmax(-1)[t]
                    )
                    for n, t in enumerate(answer)
                )
                for answer in answers
            ]
        )
        np.testing.assert_allclose(found, wanted - np.logaddexp.reduce(wanted), atol=world.near)
        assert conversation.ids == world.prompt
        # Other weights would be seen.
        assert before is None or np.abs(found - before).max() > 10 * world.near
        before = found
