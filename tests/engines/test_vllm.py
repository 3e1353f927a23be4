"""What is vLLM's own: requests, adapters on the server, what the server cannot do, a lost server.

What every engine must do is in test_text_conformance.py.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from comity.engines.local.scoring import Answers, ScoreRequest
from comity.engines.local.session import Session
from comity.engines.vllm.adapters import served_name
from comity.engines.vllm.check import (
    check_adapters,
    check_scoring,
    check_server,
    check_temperature,
    check_tokenizer,
)
from comity.engines.vllm.client import ServerLostError, VllmClient
from comity.engines.vllm.served_model import RESTARTS
from comity.errors import ComityError, WorkError
from tests.engines.text_engines import PATTERN, TwinWorld, twin_world


@pytest.fixture
def world(tiny_model: Callable[[str], Path], tmp_path: Path) -> Iterator[TwinWorld]:
    with twin_world(tiny_model("llama"), tmp_path / "served") as found:
        yield found


def test_whole_answers_are_asked_for_once(world: TwinWorld) -> None:
    for pattern in (None, PATTERN):
        world.sample(range(6), pattern)
    assert world.engine.served["completed_here"] == 0
    assert len(world.twin.bodies) == 12
    assert all(body["prompt"] == world.prompt for body in world.twin.bodies)
    assert len({body["seed"] for body in world.twin.bodies}) == 6


ANSWERS: Answers = ((40,), (41, 50), (41, 60))


def score(
    world: TwinWorld, session: Session, prompts: Sequence[Sequence[int]], answers: Answers = ANSWERS
) -> list[np.ndarray]:
    """The distribution over the answers after each prompt."""
    requests = []
    for ids in prompts:
        conversation = session.conversation(None)
        conversation.append(ids)
        requests.append(ScoreRequest(conversation, answers))
    return session.score(requests)


def test_scored_answers_stay_here_by_default(world: TwinWorld) -> None:
    (found,) = score(world, world.engine.session(), [world.prompt])
    assert np.exp(found).sum() == pytest.approx(1)
    assert not world.twin.bodies


def test_scoring_on_a_server_computes_nothing_here(world: TwinWorld) -> None:
    """Equal contexts are asked for once, in one batch and in a session."""
    world.score_on_server()
    session, computed = world.engine.session(), world.engine.tokens_computed
    other = [*world.prompt, 7]
    first, again, second = score(world, session, [world.prompt, world.prompt, other])
    # Two prompts, each alone and with 41 after it.
    assert len(world.twin.bodies) == world.engine.served["score_requests"] == 4
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(score(world, session, [other])[0], second)
    assert world.engine.served["score_requests"] == 4
    score(world, world.engine.session(), [other])
    assert world.engine.served["score_requests"] == 6
    assert world.engine.tokens_computed == computed


def test_more_answers_than_a_request_may_have(world: TwinWorld) -> None:
    answers = tuple((token,) for token in range(5, 205))
    (wanted,) = score(world, world.engine.session(), [world.prompt], answers)
    world.score_on_server()
    (found,) = score(world, world.engine.session(), [world.prompt], answers)
    np.testing.assert_allclose(found, wanted, atol=world.near)
    assert world.engine.served["score_requests"] == 2


def test_a_lost_server_changes_no_score(world: TwinWorld) -> None:
    world.score_on_server()
    (undisturbed,) = score(world, world.engine.session(), [world.prompt])
    world.twin.failures = 2
    (again,) = score(world, world.engine.session(), [world.prompt])
    assert world.restarts == 2
    np.testing.assert_array_equal(again, undisturbed)


def test_a_server_that_cannot_score_is_refused(world: TwinWorld) -> None:
    world.twin.old = True
    with pytest.raises(WorkError, match=r"newer vLLM.*engine\.scored=local"):
        check_scoring(world.scorer, world.engine)


def test_prompts_are_not_computed_here_for_text_that_is_sampled_there(world: TwinWorld) -> None:
    session, computed = world.engine.session(), world.engine.tokens_computed
    conversation = session.conversation(None)
    conversation.append(world.prompt)
    session.prefetch([ScoreRequest(conversation, ANSWERS)])
    assert world.engine.tokens_computed == computed


def test_what_the_server_divides_otherwise_is_completed_here(world: TwinWorld) -> None:
    """From the first forced token on that differs; what was sampled before it is kept."""
    text = world.chat.encode_text("</answer>")
    whole = next(token for token in text if len(world.chat.decode([token])) > 1)
    letters = [world.chat.encode_text(letter)[0] for letter in world.chat.decode([whole])]
    world.twin.divide = {whole: letters}
    samples = world.sample(range(4), PATTERN)
    world.assert_plain(samples, None)
    for request, _ in samples:
        assert world.chat.answer_text(world.answer(request)).endswith("</answer>")
    assert world.engine.served["completed_here"] == 4


@pytest.mark.parametrize("pattern", [None, PATTERN])
def test_what_the_server_cut_is_completed_here(world: TwinWorld, pattern: str | None) -> None:
    world.twin.cut = 3
    samples = world.sample(range(4), pattern)
    world.assert_plain(samples, None)
    assert all(sample.stop for _, sample in samples)
    assert world.engine.served["completed_here"] > 0


def test_every_update_has_a_name_of_its_own(world: TwinWorld) -> None:
    world.add("learner", 1)
    world.sample(range(1), None, "learner")
    world.change("learner", 2)
    world.sample(range(1), None, "learner")
    assert len(set(world.twin.loaded)) == len(world.twin.loaded) == 2
    assert world.twin.loaded[-1].endswith(served_name(world.engine, "learner"))


def test_old_adapters_leave_and_come_back(world: TwinWorld) -> None:
    names = ["learner", "other", "past:1"]
    for number, name in enumerate(names):
        world.add(name, number)
    session = world.engine.session()
    session.sample([world.request(session, 0, None, name) for name in names])
    world.change("learner", 7)
    world.sample(range(1), None, "learner")
    assert len(world.twin.engine.adapters.names) == 2  # `kept`
    world.sample(range(1), None, "other")


def test_adapters_are_unloaded_while_the_interpreter_ends(world: TwinWorld) -> None:
    """By a server's name, too: event loops look up names in threads, which cannot start then."""
    world.add("learner", 1)
    world.sample(range(1), None, "learner")
    url, (name,) = world.url.replace("127.0.0.1", "localhost"), world.twin.engine.adapters.names
    program = (
        "import atexit, sys; from comity.engines.vllm.client import VllmClient\n"
        "atexit.register(VllmClient(sys.argv[1]).unload_adapter, sys.argv[2])"
    )
    command = [sys.executable, "-c", program, url, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "" and world.twin.engine.adapters.names == []
    with pytest.raises(WorkError, match="does not unload"):  # the fixture would, once more
        world.adapters.close()


def test_two_processes_share_a_server(world: TwinWorld, tmp_path: Path) -> None:
    """Adapters with the same weights, as two arms begin with, and one that leaves first."""
    other = TwinWorld(world._folder, world.url, tmp_path / "other", world.twin)
    for one in (world, other):
        one.add("learner", 1)
        one.sample(range(1), None, "learner")
    other.served.close()
    world.assert_plain(world.sample(range(2), None, "learner"), "learner")
    assert world.restarts == 0


@pytest.mark.parametrize("pattern", [None, PATTERN])
def test_a_lost_server_changes_no_answer(world: TwinWorld, pattern: str | None) -> None:
    """A new one has no adapters; the same requests are sent to it, with the same seeds."""
    world.add("learner", 1)
    undisturbed = world.sample(range(4), pattern, "learner")
    world.twin.failures = 2
    again = world.sample(range(4), pattern, "learner")
    assert world.restarts == 2
    assert [sample.ids for _, sample in again] == [sample.ids for _, sample in undisturbed]
    # Another time, between two batches: the adapter is unknown.
    world.twin.failures = 0
    world.twin.forget()
    world.assert_plain(world.sample(range(4), pattern, "learner"), "learner")
    assert world.restarts == 3


def test_a_server_is_not_started_for_ever(world: TwinWorld) -> None:
    world.twin.failures = 1000
    with pytest.raises(WorkError, match=f"after {RESTARTS} new starts"):
        world.sample(range(2), None)
    assert world.restarts == RESTARTS


def test_a_server_with_other_weights_is_refused(world: TwinWorld) -> None:
    assert check_server(world.client, "base", world.engine) < world.near
    with torch.no_grad():
        world.engine.head.weight.mul_(0.5)
    with pytest.raises(ComityError, match="another model"):
        check_server(world.client, "base", world.engine)


def test_a_server_that_leaves_out_the_temperature_is_refused(world: TwinWorld) -> None:
    """vLLM's default; scored answers and sampled text are refused each by a check of its own."""
    check_temperature(world.client, "base", world.engine)
    check_scoring(world.scorer, world.engine)
    world.twin.processed = False
    with pytest.raises(ComityError, match="processed_logprobs"):
        check_temperature(world.client, "base", world.engine)
    with pytest.raises(ComityError, match=r"other probabilities.*engine\.scored=local"):
        check_scoring(world.scorer, world.engine)


def test_a_server_with_a_smaller_vocabulary_serves_another_model(world: TwinWorld) -> None:
    world.twin.vocabulary = 100
    with pytest.raises(ComityError, match="serves another model"):
        check_server(world.client, "base", world.engine)


def test_a_server_with_another_tokenizer_is_refused(world: TwinWorld) -> None:
    """Ids go in and out, but the server's grammars are over its own tokenizer's texts."""
    tokenizer = world.chat.tokenizer
    check_tokenizer(world.client, tokenizer, world.engine)
    words = {"A": "B", "B": "A", " .": ".", "\N{REPLACEMENT CHARACTER}": ""}

    class Other:
        def __init__(self, *changed: str) -> None:
            self.changed = str.maketrans({one: words[one] for one in changed})

        def decode(self, ids: list[int]) -> str:
            return str(tokenizer.decode(ids)).replace(" .", ".").translate(self.changed)

    world.twin.tokenizer = Other("\N{REPLACEMENT CHARACTER}")  # as other releases decode
    check_tokenizer(world.client, tokenizer, world.engine)
    world.twin.tokenizer = Other("A", "B")
    with pytest.raises(ComityError, match="another tokenizer"):
        check_tokenizer(world.client, tokenizer, world.engine)


def test_adapters_are_tried_before_anything_is_played(world: TwinWorld) -> None:
    shape = {"rank": 8, "alpha": 16.0, "targets": "all-linear"}
    check_adapters(world.adapters, world.client, world.engine, shape)
    assert len(world.twin.loaded) == 1
    assert world.twin.engine.adapters.names == world.engine.adapters.names == []
    world.twin.without_adapters = True
    with pytest.raises(ComityError, match="adapter otherwise"):
        check_adapters(world.adapters, world.client, world.engine, shape)
    # vLLM answers with the status 500, but it works: it is not started again.
    with pytest.raises(WorkError, match=r"rank 32 is greater.*--max-lora-rank") as found:
        check_adapters(world.adapters, world.client, world.engine, {**shape, "rank": 32})
    assert not isinstance(found.value, ServerLostError)
    assert world.twin.engine.adapters.names == world.engine.adapters.names == []
    assert not list(world.folder.iterdir())


def test_an_answer_is_asked_for_as_far_as_the_server_takes_it(world: TwinWorld) -> None:
    """The room for forced text may go beyond the server's limit; the answer itself does not."""
    world.twin.max_tokens = world.served.max_tokens = len(world.prompt) + 24
    world.assert_plain(world.sample(range(4), PATTERN), None)


@pytest.mark.parametrize("owner", ["llamacpp", None])
def test_a_server_that_is_no_vllm_is_refused(world: TwinWorld, owner: str | None) -> None:
    world.twin.max_tokens = 640
    assert world.client.model() == ("base", 640)
    world.twin.owner = owner
    with pytest.raises(ComityError, match="is not vLLM"):
        world.client.model()


def test_an_absent_server_is_one_line() -> None:
    client = VllmClient("http://127.0.0.1:9/v1")
    with pytest.raises(ServerLostError, match="cannot be reached"):
        client.model()
    client.close()


def test_what_the_server_refuses_is_quoted(world: TwinWorld) -> None:
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
