"""Sampling under regular expressions: what may follow, what must, and what it costs."""

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from comity.engines.chat import ChatFormat
from comity.engines.grammar import GrammarCompiler, Matcher
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.engines.local.sampling import Sample, SampleRequest
from comity.engines.local.session import ScoreRequest, Session
from comity.engines.token_masks import apply_masks, entropies
from comity.errors import ComityError
from tests.tiny import make_tokenizer
from tests.worlds import tiny_folder

CLAIM = r"<c>[ \n]{0,2}(10|[0-9]) hats, (10|[0-9]) books</c>"
MESSAGE = r"<m>[^<]{0,60}</m>"


@cache
def tokenizer() -> Any:
    return make_tokenizer()


@cache
def grammars() -> GrammarCompiler:
    return GrammarCompiler(ChatFormat.from_tokenizer(tokenizer()))


@cache
def engine() -> Engine:
    made = Engine(load_model(str(tiny_folder("llama")), "float32", "cpu"))
    for i in range(2):
        made.adapters.add(f"a{i}", rank=4, alpha=8, seed=i)
        generator = torch.Generator().manual_seed(10 + i)
        for parameter in made.adapters.parameters(f"a{i}").values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return made


def draw(
    session: Session,
    pattern: str,
    seed: int,
    limit: int = 400,
    adapter: str | None = None,
    told: str = "What do you say?",
    closing: str = "",
    temperature: float = 1.0,
) -> SampleRequest:
    conversation = session.conversation(adapter)
    conversation.append(tokenizer().encode(told))
    return SampleRequest(
        conversation,
        limit,
        frozenset([tokenizer().eos_token_id]),
        np.random.default_rng(seed),
        temperature,
        grammars().compile(pattern).start(),
        tuple(tokenizer().encode(closing)) if closing else (),
    )


def sampled(draws: list[SampleRequest], session: Session) -> list[tuple[Sample, str]]:
    """What was drawn, and the whole answer's text without its end."""
    starts = [len(d.conversation.ids) for d in draws]
    found = session.sample(draws)
    texts = []
    for one, d, start in zip(found, draws, starts, strict=True):
        ids = d.conversation.ids[start:]
        if one.stop == "end":
            assert ids.pop() == tokenizer().eos_token_id
        for token, offset in zip(one.ids, one.offsets, strict=True):
            assert d.conversation.ids[start + offset] == token
        texts.append(tokenizer().decode(ids, clean_up_tokenization_spaces=False))
    return list(zip(found, texts, strict=True))


# ---- matchers ----


def walk(matcher: Matcher, rng: np.random.Generator) -> tuple[list[int], int]:
    """A random answer, and how many of its tokens were chosen."""
    tokens, chosen = list(matcher.fast_forward()), 0
    while not matcher.finished:
        token = int(rng.choice(matcher.mask().tokens))
        matcher.accept(token)
        chosen += 1
        if token in matcher.end_ids:
            assert matcher.finished
            break
        tokens += [token, *matcher.fast_forward()]
    return tokens, chosen


def test_what_must_follow_is_forced_and_what_may_is_masked() -> None:
    matcher = grammars().compile("(3|4) hats, 5 books").start()
    assert matcher.fast_forward() == []
    text = [tokenizer().decode([int(t)]) for t in matcher.mask().tokens]
    assert text == ["3", "4"]
    matcher.accept(tokenizer().encode("3")[0])
    assert matcher.fast_forward() == tokenizer().encode(" hats, 5 books")
    assert matcher.finished and matcher.accepting
    assert matcher.fast_forward() == []


def test_an_end_may_be_chosen_only_where_the_pattern_may_end() -> None:
    end = tokenizer().eos_token_id
    matcher = grammars().compile("a+").start()
    assert not matcher.accepting
    assert end not in matcher.mask()
    with pytest.raises(ValueError, match="cannot follow"):
        matcher.accept(end)
    matcher.accept(tokenizer().encode("a")[0])
    assert matcher.accepting and not matcher.finished
    assert end in matcher.mask()
    assert matcher.mask().count == len(matcher.mask().tokens) >= 2
    matcher.accept(end)
    assert matcher.finished and matcher.fast_forward() == []


def test_the_same_set_is_the_same_object() -> None:
    grammar = grammars().compile(MESSAGE)
    masks = []
    for first in ("A", "B"):
        matcher = grammar.start()
        matcher.fast_forward()
        matcher.accept(tokenizer().encode(first)[0])
        masks.append(matcher.mask())
    assert masks[0] is masks[1]
    assert masks[0] is not grammars().compile("A|B").start().mask()


def test_control_tokens_stay_outside() -> None:
    control = set(tokenizer().all_special_ids)
    spelled = grammars().compile(r"a<\|im_start\|>b").start()
    tokens = spelled.fast_forward()
    assert tokenizer().decode(tokens) == "a<|im_start|>b"
    assert not control & set(tokens)
    anything = grammars().compile(r"(?s:.){1,9}").start()
    assert not control & set(anything.mask().tokens.tolist())
    with pytest.raises(ValueError, match="cannot follow"):
        anything.accept(tokenizer().convert_tokens_to_ids("<|im_start|>"))


def test_a_body_without_the_delimiters_first_letter_cannot_hold_one() -> None:
    matcher = grammars().compile(r"[^<]{0,500}").start()
    rng = np.random.default_rng(0)
    while not matcher.finished:
        allowed = matcher.mask().tokens
        texts = tokenizer().batch_decode([[int(t)] for t in allowed])
        assert not any("<" in t for t, i in zip(texts, allowed, strict=True) if i > 2)
        matcher.accept(int(rng.choice(allowed)))


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("(a", "no regular expression"),
        ("a{3,1}", "no regular expression"),
        ("(?=a)b", "look-around"),
        (r"(a)\1", "backreferences"),
    ],
)
def test_other_patterns_are_refused_in_one_line(pattern: str, complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint) as caught:
        grammars().compile(pattern)
    assert "\n" not in str(caught.value)


def words(*vocabulary: str, byte_level: bool = True) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    ids = {word: i for i, word in enumerate(["[UNK]", "</s>", *vocabulary])}
    made = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if byte_level:
        made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="[UNK]")


def byte_pairs(listed: bool, merged: bool) -> PreTrainedTokenizerFast:
    """A tokenizer laid out as published ones are: control tokens stand among the added tokens.

    `listed`: they are ordinary tokens too, as Gemma's are. `merged`: and letters merge into them.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges = []
    pairs = [("<", "u"), ("<u", ">")] if merged else []
    for first, second in pairs:
        vocabulary[first + second] = len(vocabulary)
        merges.append((first, second))
    if listed:
        for control in ("<s>", "<u>", "<e>"):
            vocabulary.setdefault(control, len(vocabulary))
    made = Tokenizer(models.BPE(vocabulary, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    for text, special in (("<s>", True), ("<b>", False), ("<u>", False), ("<e>", True)):
        made.add_tokens([AddedToken(text, special=special, sanitize=False)])
    made.add_tokens([AddedToken("<last>", sanitize=False)])
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="<e>")
    fast.chat_template = "{% for m in messages %}<u>{{ m.content }}<e>{% endfor %}<u>"
    return fast


@pytest.mark.parametrize(("listed", "merged"), [(False, False), (True, False), (True, True)])
def test_tokens_behind_control_tokens_keep_their_places(listed: bool, merged: bool) -> None:
    made = byte_pairs(listed, merged)
    ids = made.convert_tokens_to_ids
    few = GrammarCompiler(ChatFormat.from_tokenizer(made))
    control = {ids(text) for text in ("<s>", "<u>", "<e>")}
    for token in set(made.get_vocab().values()) - control:
        assert few.usable(token)
        text = made.convert_ids_to_tokens(token)
        if text in ("<b>", "<last>", "a"):
            assert few.text(token) == text.encode()
    assert not any(few.usable(token) for token in control)
    anything = few.compile("(?s:.){1,9}").start()
    assert ids("<last>") in anything.mask() and ids("<b>") in anything.mask()
    assert not control & set(anything.mask().tokens.tolist())
    tokens, _ = walk(few.compile("a<s><u><e><b>c").start(), np.random.default_rng(0))
    assert b"".join(map(few.text, tokens)) == b"a<s><u><e><b>c"
    assert not control & set(tokens)


def test_what_the_tokenizer_cannot_write_is_taken_out_or_refused() -> None:
    some = words("hat", "s", "3", "Ġ", ",", "x")
    few = GrammarCompiler(ChatFormat.from_tokenizer(some))
    matcher = few.compile("(hats|coats|3 hats)").start()
    assert [some.convert_ids_to_tokens(int(t)) for t in matcher.mask().tokens] == ["hat", "3"]
    for i in range(20):
        tokens, _ = walk(few.compile("(x|hat|s|ba){1,5}").start(), np.random.default_rng(i))
        assert re.fullmatch("(x|hat|s){1,5}", some.decode(tokens))
    for pattern in ("coats", "hats and ties", "[a-g]", "hat{3}", "é"):
        with pytest.raises(ComityError, match="cannot write"):
            few.compile(pattern)


def test_a_tokenizer_whose_tokens_are_no_bytes_is_refused() -> None:
    with pytest.raises(ComityError, match="cannot be used with grammars") as caught:
        GrammarCompiler(ChatFormat.from_tokenizer(words("hat", byte_level=False)))
    assert "\n" not in str(caught.value)


def test_an_end_that_is_a_letter_too_ends_and_is_never_inside() -> None:
    """Plain-text models end an answer with a line break."""
    plain = make_tokenizer(chat=False)
    (line,) = plain.encode("\n")
    lines = GrammarCompiler(ChatFormat.from_tokenizer(plain))
    with pytest.raises(ComityError, match="cannot write"):
        lines.compile("a\nb")
    matcher = lines.compile(r"a[ \n]?b?").start()
    matcher.fast_forward()
    assert {line, plain.eos_token_id} <= set(matcher.mask().tokens.tolist())
    matcher.accept(line)
    assert matcher.finished


def test_masks_have_the_width_of_the_output_layer() -> None:
    size = len(tokenizer())
    few = GrammarCompiler(ChatFormat.from_tokenizer(tokenizer()), vocabulary=100)
    assert few.compile("[^<]{1,9}").start().mask().tokens.max() < 100
    mask = grammars().compile("[^<]{1,9}").start().mask()
    wide = apply_masks(torch.zeros(2, size + 90), [mask, None])
    assert torch.isneginf(wide[0, size:]).all()
    assert int((wide[0] == 0).sum()) == mask.count
    assert bool((wide[1] == 0).all())


LEAVES = st.sampled_from(
    ["a", "b", "hats", "[^<]{0,7}", "[0-9]", r"[ \t\r\n]{0,2}", "é?", "(10|[0-9])", "<m>", "."]
)
PATTERNS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        inner.map(lambda one: f"({one})?"),
        inner.map(lambda one: f"({one}){{1,3}}"),
        inner.map(lambda one: f"({one})*"),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(pattern=PATTERNS, seed=st.integers(0, 1000), limit=st.integers(0, 25))
def test_whatever_is_sampled_matches_or_was_cut(pattern: str, seed: int, limit: int) -> None:
    session = engine().session()
    ((one, text),) = sampled([draw(session, pattern, seed, limit)], session)
    if one.stop == "limit":
        assert len(one.ids) == limit
    else:
        assert one.stop in ("end", "grammar")
        assert re.fullmatch(pattern, text), (pattern, text)
    for token, mask in zip(one.ids, one.masks, strict=True):
        assert mask is not None and token in mask
        assert mask.count > 1, "what must follow is no choice"


# ---- sampling ----


def test_forced_tokens_cost_no_step() -> None:
    machine = engine()
    session = machine.session()
    passes = []
    forward = machine.forward
    machine.forward = lambda *a, **k: passes.append(len(a[0])) or forward(*a, **k)  # type: ignore
    before = machine.tokens_computed
    try:
        one = draw(session, "(3|4) hats,(5|6) books</c>", 0)
        told = len(one.conversation.ids)
        ((drawn, text),) = sampled([one], session)
        between = len(tokenizer().encode(" hats,"))
        assert drawn.offsets == [0, 1 + between] and len(drawn.ids) == 2
        assert drawn.stop == "grammar"
        assert passes == [told, 1 + between], "one pass for each choice, none for the rest"
        assert machine.tokens_computed - before == told + 1 + between
        # A whole answer that is forced costs nothing at all.
        other = draw(session, "nothing to say", 0)
        assert sampled([other], session)[0][0] == Sample([], [], [], [], "grammar")
        assert len(passes) == 2
        # The conversation goes on: what was told at the end is computed now.
        one.conversation.append([9])
        session.score([ScoreRequest(one.conversation, ((5,), (6,)))])
        assert len(passes) == 3
        assert machine.tokens_computed - before == len(one.conversation.ids)
    finally:
        del machine.forward
    assert re.fullmatch("(3|4) hats,(5|6) books</c>", text)


def test_a_message_is_cut_and_closed() -> None:
    session = engine().session()
    draws = [
        draw(session, MESSAGE, 1, limit=6, closing="</m>"),
        draw(session, MESSAGE, 1, limit=6),
        draw(session, CLAIM, 1, limit=1, closing="</m>"),
        draw(session, MESSAGE, 1, limit=0, closing="</m>"),
    ]
    (closed, text), (cut, _), (claim, _), (none, empty) = sampled(draws, session)
    assert closed.stop == "closed" and re.fullmatch(MESSAGE, text)
    # Two more end a character whose first byte was the sixth token.
    assert cut.stop == "limit" and closed.ids[:6] == cut.ids and len(closed.ids) == 8
    assert claim.stop == "limit" and len(claim.ids) == 1, "the closing does not belong there"
    assert none.stop == "closed" and none.ids == [] and empty == "<m></m>"


def test_every_cut_message_can_be_closed() -> None:
    session = engine().session()
    draws = [draw(session, MESSAGE, i, limit=1 + i % 9, closing="</m>") for i in range(60)]
    for one, text in sampled(draws, session):
        assert one.stop in ("closed", "grammar")
        assert re.fullmatch(MESSAGE, text)


def test_grammars_adapters_and_free_text_in_one_batch() -> None:
    """Each answer is what it is alone, whatever is drawn beside it."""

    def batch(session: Session) -> list[SampleRequest]:
        free = draw(session, "x", 5, 4, "a0", "Free")
        return [
            draw(session, CLAIM, 0, 50, "a1", "One"),
            SampleRequest(free.conversation, 4, free.stop, free.rng),
            draw(session, MESSAGE, 1, 50, "a0", "Two", temperature=0.7),
            draw(session, "(yes|no)", 2, 50, None, "Three"),
        ]

    session = engine().session()
    together = sampled(batch(session), session)
    for i, (one, text) in enumerate(together):
        alone = engine().session()
        ((other, same),) = sampled([batch(alone)[i]], alone)
        assert (one.ids, one.offsets, one.stop, text) == (
            other.ids,
            other.offsets,
            other.stop,
            same,
        )
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)
    assert together[1][0].masks == [None] * 4
    assert together[1][0].offsets == [0, 1, 2, 3]


def test_choices_follow_the_masked_distribution() -> None:
    session = engine().session()
    count = 3000
    draws = [draw(session, "[0-4]", i, temperature=0.8) for i in range(count)]
    told = list(draws[0].conversation.ids)
    tokens = np.array([one.ids[0] for one in session.sample(draws)])
    digits = [tokenizer().encode(d)[0] for d in "01234"]
    hidden = engine().hidden_states([told], None, gradients=False).hidden[-1:]
    probabilities = torch.softmax(engine().head.logits(hidden)[0, digits] / 0.8, -1).numpy()
    for digit, p in zip(digits, probabilities, strict=True):
        assert abs((tokens == digit).mean() - p) < 4.5 * np.sqrt(p * (1 - p) / count) + 1e-9


# ---- entropy ----


@pytest.mark.parametrize("top_k", [None, 2, 5, 1000])
def test_masked_entropy_is_the_naive_one(top_k: int | None) -> None:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(4, 350)) * 3, dtype=torch.float32)
    patterns = ["[0-9]", "(3|4)", "[^<]{1,9}"]
    masks = [*(grammars().compile(p).start().mask() for p in patterns), None]
    got = entropies(torch.log_softmax(apply_masks(logits, masks), -1), top_k)
    for row, mask, value in zip(logits.double().numpy(), masks, got, strict=True):
        allowed = range(350) if mask is None else [t for t in range(350) if t in mask]
        weights = sorted((np.exp(row[t]) for t in allowed), reverse=True)[:top_k]
        total = sum(weights)
        expected = -sum(w / total * np.log(w / total) for w in weights)
        assert float(value) == pytest.approx(expected, abs=1e-4)


def test_entropy_under_a_mask_has_a_finite_gradient() -> None:
    mask = grammars().compile("(3|4)").start().mask()
    for top_k in (None, 2, 3):
        logits = torch.zeros(1, 350, dtype=torch.float64, requires_grad=True)
        chosen = mask.tokens
        with torch.no_grad():
            logits[0, chosen[0]] = 1.0
        entropies(torch.log_softmax(apply_masks(logits, [mask]), -1), top_k).sum().backward()
        assert logits.grad is not None and torch.isfinite(logits.grad).all()
        p = 1 / (1 + np.exp(-1.0))
        # dH/dz of a pair is -p (1 - p) (z - z').
        assert float(logits.grad[0, chosen[0]]) == pytest.approx(-p * (1 - p))
        assert float(logits.grad.abs().sum()) == pytest.approx(2 * p * (1 - p))


# ---- the default model ----


@pytest.mark.usefixtures("smollm2")
def test_the_default_model_says_something_and_claims() -> None:
    model = load_model("smollm2-135m", "float32", "cpu")
    real = load_tokenizer("smollm2-135m")
    machine = Engine(model)
    regular = GrammarCompiler(ChatFormat.from_tokenizer(real), machine.head.vocabulary)
    session = machine.session()
    conversation = session.conversation(None)
    conversation.append(real.encode("user: Greet the other player in a few words.\nassistant:"))
    rng = np.random.default_rng(0)
    stop = frozenset([real.eos_token_id])
    closing = tuple(real.encode("</message>"))
    texts, answers = [], []
    for pattern, limit in (
        (r"<message>[^<]{0,500}</message>", 8),
        (r"<coins>[ \n]{0,4}(10|[0-9])</coins>", 8),
    ):
        start = len(conversation.ids)
        matcher = regular.compile(pattern).start()
        (one,) = session.sample(
            [SampleRequest(conversation, limit, stop, rng, 0.7, matcher, closing)]
        )
        texts.append(real.decode(conversation.ids[start:]))
        assert re.fullmatch(pattern, texts[-1])
        answers.append((start, one))
        conversation.append(real.encode("\nNow claim:"))
    assert answers[0][1].stop in ("closed", "grammar")
    ids = torch.tensor([conversation.ids])
    plain = load_model("smollm2-135m", "float32", "cpu")
    with torch.no_grad():
        logits = plain(input_ids=ids).logits[0].float() / 0.7
    for start, one in answers:
        for token, offset, mask, logprob in zip(
            one.ids, one.offsets, one.masks, one.logprobs, strict=True
        ):
            assert mask is not None
            row = logits[start + offset - 1]
            allowed = torch.from_numpy(mask.tokens)
            assert float(row[token] - torch.logsumexp(row[allowed], 0)) == pytest.approx(
                logprob, abs=1e-4
            )
