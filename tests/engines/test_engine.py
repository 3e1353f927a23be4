"""The engine against plain transformers: same probabilities, whatever is shared or cached."""

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from comity.engines.local import attention, kv_buffers, packing, scoring
from comity.engines.local import session as session_module
from comity.engines.local.conversation import Conversation
from comity.engines.local.engine import Engine
from comity.engines.local.packing import _group_segments, pack
from comity.engines.local.prefix_tree import Segment
from comity.engines.local.sampling import Sample, SampleRequest
from comity.engines.local.scoring import Answers
from comity.engines.local.session import ScoreRequest
from tests.tiny import ARCHITECTURES, assert_agree, make_tiny


@cache
def folder(architecture: str) -> Path:
    return make_tiny(architecture, Path(mkdtemp()) / architecture)


def make_engine(architecture: str, dtype: torch.dtype = torch.float32, adapters: int = 0) -> Engine:
    model = AutoModelForCausalLM.from_pretrained(folder(architecture), dtype=dtype)
    engine = Engine(model)
    for i in range(adapters):
        engine.adapters.add(f"a{i}", rank=4, alpha=8, seed=i)
        generator = torch.Generator().manual_seed(100 + i)
        for parameter in engine.adapters.parameters(f"a{i}").values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return engine


def plain_model(architecture: str) -> Any:
    """An ordinary transformers model; eager attention is the one that knows every part."""
    return AutoModelForCausalLM.from_pretrained(
        folder(architecture), dtype=torch.float32, attn_implementation="eager"
    )


def plain_logprobs(
    architecture: str, ids: list[int], adapter: tuple[Engine, str] | None
) -> torch.Tensor:
    """float32 log-softmax `[len(ids), vocabulary]` of an ordinary transformers (and peft) model."""
    model = plain_model(architecture)
    if adapter is not None:
        from peft import PeftModel

        engine, name = adapter
        saved = Path(mkdtemp())
        engine.adapters.save(name, saved)
        model = PeftModel.from_pretrained(model, str(saved))
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].float(), dim=-1)


def plain_choice(
    logprobs_of: "PlainCache", adapter: str | None, ids: list[int], answers: Answers
) -> np.ndarray:
    scores = []
    for answer in answers:
        table = logprobs_of(adapter, [*ids, *answer])
        places = range(len(ids) - 1, len(ids) - 1 + len(answer))
        scores.append(sum(float(table[p, t]) for p, t in zip(places, answer, strict=True)))
    total = np.logaddexp.reduce(scores)
    return np.array(scores) - total


class PlainCache:
    def __init__(self, architecture: str, engine: Engine) -> None:
        self.models: dict[str | None, torch.nn.Module] = {}
        self.architecture, self.engine = architecture, engine

    def __call__(self, adapter: str | None, ids: list[int]) -> torch.Tensor:
        if adapter not in self.models:
            model = plain_model(self.architecture)
            if adapter is not None:
                from peft import PeftModel

                saved = Path(mkdtemp())
                self.engine.adapters.save(adapter, saved)
                model = PeftModel.from_pretrained(model, str(saved))
            self.models[adapter] = model.eval()
        with torch.no_grad():
            logits = self.models[adapter](input_ids=torch.tensor([ids])).logits[0].float()
        return torch.log_softmax(logits, dim=-1)


def random_ids(rng: np.random.Generator, length: int) -> list[int]:
    return [int(t) for t in rng.integers(3, 300, size=length)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_growing_conversations_score_like_plain_forwards(architecture: str) -> None:
    """Adapters on and off in one batch, shared beginnings, several rounds, long answers."""
    engine = make_engine(architecture, adapters=2)
    plain = PlainCache(architecture, engine)
    session = engine.session()
    rng = np.random.default_rng(1)
    rules = random_ids(rng, 21)
    adapters = [None, "a0", "a1", "a0", None, "a1", "a0"]
    conversations = [session.conversation(a) for a in adapters]
    for i, conversation in enumerate(conversations):
        conversation.append(rules if i < 5 else random_ids(rng, 5 + 3 * i))
    short: Answers = ((40,), (41,), (77,))
    long: Answers = ((40, 50, 60), (40, 51), (99,), (120, 7))
    for round_ in range(4):
        answers = [short if (i + round_) % 2 else long for i in range(len(conversations))]
        got = session.score(
            [ScoreRequest(c, a) for c, a in zip(conversations, answers, strict=True)]
        )
        for conversation, legal, logprobs in zip(conversations, answers, got, strict=True):
            expected = plain_choice(plain, conversation.adapter, conversation.ids, legal)
            assert_agree(logprobs, expected, torch.float32)
        for i, conversation in enumerate(conversations):
            # Some stay identical (shared), others part here.
            conversation.append(
                [*answers[i][round_ % 3], *(random_ids(rng, 3) if i % 3 else [9, 8])]
            )


def test_identical_conversations_and_prefixes_are_computed_once() -> None:
    engine = make_engine("llama", adapters=1)
    session = engine.session()
    rules = random_ids(np.random.default_rng(0), 30)
    conversations = [session.conversation("a0") for _ in range(8)]
    for conversation in conversations:
        conversation.append(rules)
    answers: Answers = ((5,), (6,))
    first = session.score([ScoreRequest(c, answers) for c in conversations])
    assert engine.tokens_computed == 30
    assert all(np.array_equal(first[0], other) for other in first)
    for i, conversation in enumerate(conversations):
        conversation.append([5 if i < 4 else 6, 11, 12])
    session.score([ScoreRequest(c, answers) for c in conversations])
    assert engine.tokens_computed == 36
    session.score([ScoreRequest(c, answers) for c in conversations])
    assert engine.tokens_computed == 36, "asking again must cost nothing"
    inside = session.conversation("a0")
    inside.append(rules[:10])
    (got,) = session.score([ScoreRequest(inside, answers)])
    assert engine.tokens_computed == 37, "only the one place whose output was not kept"
    np.testing.assert_allclose(
        got, plain_choice(PlainCache("llama", engine), "a0", rules[:10], answers), atol=1e-4
    )


def test_a_foreseen_answer_needs_no_pass_of_its_own() -> None:
    """Its outputs are those of a session without prefetching; another answer needs a pass."""
    engine = make_engine("llama", adapters=1)
    rng = np.random.default_rng(5)
    question, legal = random_ids(rng, 20), ((40, 41, 42), (40, 43))
    foreseeing, plain = engine.session(), engine.session()
    conversation = foreseeing.conversation("a0")
    conversation.append(question)
    foreseeing.prefetch([ScoreRequest(conversation, legal)])
    # Which of two single tokens comes next is read off the output of what stands before.
    after = ((50,), (51,))
    for answer, passes in (((), 0), ((40,), 0), ((40, 41), 0), ((44,), 1)):
        one, other = foreseeing.conversation("a0"), plain.conversation("a0")
        for each in (one, other):
            each.append([*question, *answer])
        before = engine.tokens_computed
        (seen,) = foreseeing.score([ScoreRequest(one, after)])
        assert engine.tokens_computed - before == passes
        (expected,) = plain.score([ScoreRequest(other, after)])
        np.testing.assert_allclose(seen, expected, atol=1e-4, rtol=1e-4)


def test_passes_are_cut_at_the_token_limit() -> None:
    whole, cut = make_engine("gemma2"), make_engine("gemma2")
    cut.max_tokens = 7
    rng = np.random.default_rng(3)
    texts = [random_ids(rng, n) for n in (25, 3, 40, 11)]
    results = []
    for engine in (whole, cut):
        session = engine.session()
        conversations = [session.conversation(None) for _ in texts]
        for conversation, text in zip(conversations, texts, strict=True):
            conversation.append(text)
        results.append(session.score([ScoreRequest(c, ((3,), (4, 5))) for c in conversations]))
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)


def families() -> list[list[int]]:
    """Paths of two families that begin alike, a lone one, and one inside another."""
    one = [*range(400)]
    other = [*range(1000, 1400)]
    paths = [[*one, *range(2000 + 50 * i, 2030 + 50 * i)] for i in range(6)]
    paths += [[*other, *range(3000 + 50 * i, 3020 + 50 * i)] for i in range(6)]
    return [*paths, [*range(5000, 5300)], [*one, 2000, 2001]]


def test_lanes_of_few_tokens_are_grouped_by_what_they_share() -> None:
    paths = families()
    order = np.random.default_rng(0).permutation(len(paths))
    segments = [Segment(paths[i], len(paths[i]) - 1, [7], None) for i in order]
    groups = _group_segments(segments)
    assert sorted(i for members, _ in groups for i in members) == list(range(len(paths)))
    for members, shared in groups:
        theirs = [segments[i].path for i in members]
        assert all(path[:shared] == theirs[0][:shared] for path in theirs)
    assert sorted(shared for members, shared in groups if len(members) > 1) == [400, 400]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_shared_is_attended_to_as_if_it_were_not(architecture: str) -> None:
    """Long common prefixes, many tokens per segment, two adapters, short sliding windows."""
    engine = make_engine(architecture, adapters=2)
    plain = PlainCache(architecture, engine)
    session = engine.session()
    rng = np.random.default_rng(9)
    rules = {name: random_ids(rng, 300) for name in ("a0", "a1")}
    conversations = [session.conversation(f"a{i % 2}") for i in range(8)]
    for i, conversation in enumerate(conversations):
        conversation.append([*rules[f"a{i % 2}"], *random_ids(rng, 3 + 2 * i)])
    answers: Answers = ((40,), (41, 50), (41, 60))
    seen: list[int] = []
    for _ in range(3):
        got = session.score([ScoreRequest(c, answers) for c in conversations])
        for conversation, logprobs in zip(conversations, got, strict=True):
            expected = plain_choice(plain, conversation.adapter, conversation.ids, answers)
            np.testing.assert_allclose(logprobs, expected, atol=1e-4)
        segments = []
        for i, conversation in enumerate(conversations):
            conversation.append(random_ids(rng, 1 + i % 5))
            path = list(conversation._slots) + [10_000 + 10 * i + n for n in range(1 + i % 5)]
            segments.append(Segment(path, len(conversation._slots), path[-1 - i % 5 :], None))
        seen += [shared for members, shared in _group_segments(segments)]
    assert max(seen) >= 300, "something was shared"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_free_tokens_have_the_probabilities_of_a_plain_forward(architecture: str) -> None:
    engine = make_engine(architecture, adapters=1)
    plain = PlainCache(architecture, engine)
    session = engine.session()
    rng = np.random.default_rng(2)
    draws = []
    for i in range(5):
        conversation = session.conversation("a0" if i % 2 else None)
        conversation.append(random_ids(rng, 6 + i))
        draws.append(SampleRequest(conversation, 9, frozenset({1}), np.random.default_rng(i)))
    before = [list(d.conversation.ids) for d in draws]
    for draw, ids, drawn in zip(draws, before, session.sample(draws), strict=True):
        assert draw.conversation.ids == [*ids, *drawn.ids]
        table = plain(draw.conversation.adapter, draw.conversation.ids)
        expected = [float(table[len(ids) - 1 + n, t]) for n, t in enumerate(drawn.ids)]
        np.testing.assert_allclose(drawn.logprobs, expected, atol=1e-4)
        assert drawn.stopped == (drawn.ids[-1] == 1)
        assert len(drawn.ids) == 9 or drawn.stopped


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_long_answers_in_buffers_are_those_of_gathered_keys(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments with a common prefix diverge, end early and outgrow the buffer; two adapters."""
    engine = make_engine(architecture, adapters=2)
    monkeypatch.setattr(kv_buffers, "BUFFER_MARGIN", 3)
    made: list[kv_buffers.KVBuffer] = []
    new = kv_buffers.KVBuffer
    monkeypatch.setattr(kv_buffers, "KVBuffer", lambda *a: made.append(new(*a)) or made[-1])

    def sampled() -> list[Sample]:
        session = engine.session()
        rng = np.random.default_rng(4)
        rules = random_ids(rng, 300)
        draws = []
        for i in range(12):
            conversation = session.conversation(f"a{i % 2}")
            conversation.append([*rules, *random_ids(np.random.default_rng(i // 4), 5 + i // 4)])
            ends = frozenset(range(1 + i))
            draws.append(SampleRequest(conversation, 25, ends, np.random.default_rng([3, i]), 2.0))
        return session.sample(draws)

    windowed, count = sampled(), len(made)
    assert 0 < count < 15, "25 passes of several blocks continue in the same buffers"
    monkeypatch.setattr(kv_buffers, "MAX_BUFFER_TOKENS", 0)
    gathered = sampled()
    assert len(made) == count
    assert len({len(one.ids) for one in gathered}) > 3, "answers end at different lengths"
    for one, other in zip(windowed, gathered, strict=True):
        assert one.ids == other.ids
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=2e-5)


def test_sampled_tokens_follow_the_distribution_and_temperature() -> None:
    engine = make_engine("llama")
    ids = random_ids(np.random.default_rng(5), 12)
    count = 3000
    session = engine.session()
    draws = []
    for i in range(count):
        conversation = session.conversation(None)
        conversation.append(ids)
        draws.append(
            SampleRequest(conversation, 1, frozenset(), np.random.default_rng([7, i]), 0.7)
        )
    tokens = np.array([drawn.ids[0] for drawn in session.sample(draws)])
    probabilities = torch.softmax(plain_logprobs("llama", ids, None)[-1] / 0.7, -1).numpy()
    likeliest = np.argsort(probabilities)[-5:]
    for token in likeliest:
        p = probabilities[token]
        assert abs((tokens == token).mean() - p) < 4.5 * np.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_learner_and_engine_agree(architecture: str, dtype: torch.dtype) -> None:
    """Hidden states for training, with and without a shared prefix, give the engine's numbers."""
    engine = make_engine(architecture, dtype, adapters=1)
    rng = np.random.default_rng(4)
    rules = random_ids(rng, 23)
    texts = [rules + random_ids(rng, n) for n in (4, 9, 9, 2)]
    texts.append(texts[1] + random_ids(rng, 5))
    answers: Answers = ((40,), (41,))
    session = engine.session()
    conversations = [session.conversation("a0") for _ in texts]
    for conversation, text in zip(conversations, texts, strict=True):
        conversation.append(text)
    played = np.array(session.score([ScoreRequest(c, answers) for c in conversations]))
    for shared_prefix in (None, engine.shared_prefix(rules, "a0")):
        states = engine.hidden_states(texts, "a0", shared_prefix)
        ends = torch.stack([states.hidden[rows[-1]] for rows in states.rows])
        learned = torch.log_softmax(engine.head.logits(ends, torch.tensor([40, 41])), -1)
        assert_agree(learned.detach(), played, dtype, most=0.15)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_equal_peft_and_do_not_depend_on_sharing(architecture: str) -> None:
    """One pass, shared prefix with micro-batches, or plain peft by sequence: one gradient."""
    from peft import PeftModel

    engine = make_engine(architecture, adapters=1)
    rng = np.random.default_rng(6)
    rules = random_ids(rng, 23)
    texts = [rules + random_ids(rng, n) for n in (4, 9, 6)]
    texts.append(texts[1][:-2] + random_ids(rng, 3))
    weights = rng.normal(size=len(texts))
    parameters = engine.adapters.parameters("a0")

    def loss(reading_rows: list[list[int]], hidden: torch.Tensor, which: list[int]) -> torch.Tensor:
        ends = torch.stack([hidden[reading_rows[j][-1]] for j in range(len(which))])
        logprobs = torch.log_softmax(engine.head.logits(ends), -1)[:, 40]
        return (logprobs * torch.tensor(weights[which], dtype=torch.float32)).sum()

    def gradient() -> dict[str, torch.Tensor]:
        found = {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}
        for p in parameters.values():
            p.grad = None
        return found

    everything = list(range(len(texts)))
    states = engine.hidden_states(texts, "a0")
    loss(states.rows, states.hidden, everything).backward()
    whole = gradient()
    shared_prefix = engine.shared_prefix(rules, "a0")
    for which in ([0], [1, 2], [3]):
        states = engine.hidden_states([texts[i] for i in which], "a0", shared_prefix)
        loss(states.rows, states.hidden, which).backward()
    shared_prefix.backward()
    parts = gradient()

    saved = Path(mkdtemp())
    engine.adapters.save("a0", saved)
    model = PeftModel.from_pretrained(plain_model(architecture), str(saved), is_trainable=True)
    for i, text in enumerate(texts):
        logits = model(input_ids=torch.tensor([text])).logits[0, -1]
        (torch.log_softmax(logits, -1)[40] * float(weights[i])).backward()
    theirs = {
        name.replace("base_model.model.", "").replace(".default.weight", ""): p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    assert set(theirs) == set(whole) == set(parts)
    scale = max(float(g.abs().max()) for g in theirs.values())
    for name, expected in theirs.items():
        assert torch.allclose(whole[name], expected, atol=2e-5 * scale), name
        assert torch.allclose(parts[name], expected, atol=2e-5 * scale), name


def test_long_free_texts_are_scored_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine("gemma2", adapters=1)
    monkeypatch.setattr(scoring, "MAX_LOGITS", 7 * engine.head.vocabulary)
    hidden = torch.randn(50, engine.model.config.hidden_size, requires_grad=True)
    tokens = torch.randint(0, 300, (50,))
    logprobs, entropy = engine.head.token_logprobs(hidden, tokens, 0.8)
    full = torch.log_softmax(engine.head.logits(hidden) / 0.8, -1)
    assert torch.allclose(logprobs, full.gather(1, tokens[:, None])[:, 0], atol=1e-5)
    assert torch.allclose(entropy, -(full.exp() * full).sum(-1), atol=1e-4)
    chosen = full.gather(1, tokens[:, None]).sum()
    (expected,) = torch.autograd.grad(chosen, hidden, retain_graph=True)
    weights = torch.randn(50)
    (got,) = torch.autograd.grad(logprobs.sum(), hidden, retain_graph=True)
    assert torch.allclose(got, expected, atol=1e-5)
    # Rows of their own weights, from the log-probability and the entropy together.
    terms = full.gather(1, tokens[:, None]).squeeze(1) - (full.exp() * full).sum(-1)
    (expected,) = torch.autograd.grad((weights * terms).sum(), hidden)
    (got,) = torch.autograd.grad((weights * (logprobs + entropy)).sum(), hidden)
    assert torch.allclose(got, expected, atol=1e-5)

    only, entropy = engine.head.token_logprobs(hidden, tokens, 0.8, entropy_gradient=False)
    assert torch.equal(only, logprobs)
    assert not entropy.requires_grad


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_lanes_attend_span_by_span_as_all_at_once(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients; segments of different lengths begin at different positions."""
    engine = make_engine(architecture, adapters=1)
    rng = np.random.default_rng(11)
    rules = random_ids(rng, 14)
    texts = [rules + random_ids(rng, n) for n in (30, 25, 33)]
    texts.append(texts[0][:30] + random_ids(rng, 13))
    parameters = list(engine.adapters.parameters("a0").values())
    found = []
    for span in (5, 1000):
        monkeypatch.setattr(packing, "SPAN_QUERIES", span)
        states = engine.hidden_states(texts, "a0")
        ends = torch.stack([states.hidden[rows[-1]] for rows in states.rows])
        gradient = torch.autograd.grad((ends * torch.arange(1.0, 5.0)[:, None]).sum(), parameters)
        found.append((states.hidden.detach(), gradient))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(one, other, atol=1e-4 * float(other.abs().max()) + 1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_merged_adapter_says_the_same(architecture: str) -> None:
    """In its block alone, and for passes of that adapter alone."""
    engine = make_engine(architecture, adapters=2)
    ids = random_ids(np.random.default_rng(12), 20)
    routes = engine.adapters.routes

    def hidden(adapter: str | None) -> torch.Tensor:
        return engine.hidden_states([ids], adapter, gradients=False).hidden

    plain = {name: hidden(name) for name in ("a0", "a1", None)}
    assert not torch.allclose(plain["a0"], plain[None], atol=1e-3)
    with engine.adapters.merged("a0"):
        # GPT-2's layers are not plain linear ones.
        assert routes.merged == (None if architecture == "gpt2" else "a0")
        for name, expected in plain.items():
            assert torch.allclose(hidden(name), expected, atol=1e-5), name
    assert routes.merged is None
    with engine.adapters.merged(None):
        assert routes.merged is None


def test_what_is_sampled_does_not_depend_on_merging(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = []
    for many in (1, 1000):
        monkeypatch.setattr(session_module, "MERGE_MIN_TOKENS", many)
        engine = make_engine("llama", adapters=1)
        session = engine.session()
        talks = [session.conversation("a0") for _ in range(3)]
        for i, talk in enumerate(talks):
            talk.append(random_ids(np.random.default_rng(i), 9))
        draws = [
            SampleRequest(talk, 12, frozenset(), np.random.default_rng(i))
            for i, talk in enumerate(talks)
        ]
        merged.append(session.sample(draws))
    for one, other in zip(*merged, strict=True):
        assert one.ids == other.ids
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_new_adapter_changes_nothing_and_is_drawn_from_its_seed() -> None:
    engine = make_engine("qwen2")
    session = engine.session()
    ids = random_ids(np.random.default_rng(8), 15)
    engine.adapters.add("x", seed=3)
    engine.adapters.add("y", seed=3)
    conversations = [Conversation(None), Conversation("x")]
    for conversation in conversations:
        conversation.append(ids)
    base, fresh = session.score([ScoreRequest(c, ((3,), (9,))) for c in conversations])
    np.testing.assert_allclose(base, fresh, atol=1e-6)
    for a, b in zip(
        engine.adapters.parameters("x").values(),
        engine.adapters.parameters("y").values(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_an_adapter_for_another_model_is_refused(tmp_path: Path) -> None:
    from comity.errors import ComityError

    make_engine("llama", adapters=1).adapters.save("a0", tmp_path)
    with pytest.raises(ComityError, match="is of the base model 'llama'"):
        make_engine("gpt2").adapters.load("other", tmp_path)
    # An adapter that does not say what it is of.
    (tmp_path / "base.json").unlink()
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    unnamed = json.dumps({**config, "base_model_name_or_path": None})
    (tmp_path / "adapter_config.json").write_text(unnamed)
    with (
        pytest.warns(RuntimeWarning, match="does not say which base"),
        pytest.raises(ComityError, match="does not fit"),
    ):
        make_engine("gpt2").adapters.load("other", tmp_path)
    with pytest.raises(ComityError, match=r"adapter_config\.json is missing"):
        make_engine("gpt2").adapters.load("other", tmp_path / "nowhere")


def test_biases_for_gpus_are_in_spans_and_aligned() -> None:
    """Without values: one bias for all layers, in the type of the queries. torch copies it for
    each layer unless all its rows begin at multiples of 8 elements.
    """
    place, dtype = torch.device("meta"), torch.bfloat16
    batch = pack([Segment([*range(2501)], 0, [1] * 2501, None)], 0, place)
    assert [span for block in batch.blocks for span in block.spans] == [
        (0, 1024, 1024),
        (1024, 2048, 2048),
        (2048, 2501, 2501),
    ]
    biases = attention.BiasCache(batch)
    ((*_, last),) = biases.get(None, 4, dtype)
    assert last.shape == (1, 1, 4 * 453, 2501) and last.dtype == dtype
    assert all(stride % 8 == 0 for stride in last.stride()[:-1]) and last.stride(-1) == 1
    assert biases.get(None, 4, dtype)[0][-1] is last
    assert biases.get(None, 4, torch.float32)[0][-1] is not last
    small = pack([Segment([0, 1, 2], 0, [1, 1, 1], None)], 0, torch.device("cpu"))
    for kind in (dtype, torch.float32):
        (bias,) = small.blocks[0].biases(2, 2, kind)
        seen = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]] * 2, dtype=torch.bool)
        assert bias.dtype == kind and bias.is_contiguous()
        assert torch.equal(bias[0, 0] == 0, seen) and torch.isinf(bias[0, 0][~seen]).all()
