"""Chat templates, labels and grammars on the published tokenizers of seven models."""

import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from comity.engines.chat import ChatFormat
from comity.engines.chat_template import DATE
from comity.engines.grammar import GrammarCompiler
from comity.engines.local.models import quiet
from comity.engines.local.tokenizer_files import follow_file
from comity.games import make_game
from comity.players.scripted.catalog import example_turns
from comity.prompts.answer_forms.delimiters import PROTOCOLS
from comity.prompts.answer_forms.forms import Thinking
from comity.prompts.labels import LABEL_SETS, LENGTHS, random_labels
from comity.prompts.negotiation.prompt import Negotiation
from tests.published import OTHERS, PUBLISHED, write_tokenizer

ALL = {**PUBLISHED, **OTHERS}
GAMES = (
    "trust_and_split",
    "trust_and_split_items",
    "trust_and_split_rps",
    "split_no_talk",
    "ultimatum",
)
TOLD = "Choose A or B. If both choose A, each earns 3 points."
LATER = "They played B. A or B?"


@pytest.fixture(scope="module", params=list(ALL))
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = write_tokenizer(ALL[request.param], tmp_path_factory.mktemp("tokenizer"))
    with quiet():
        return follow_file(AutoTokenizer.from_pretrained(folder, local_files_only=True), folder)


@pytest.fixture(scope="module")
def grammars(tokenizer: Any) -> GrammarCompiler:
    return GrammarCompiler(ChatFormat.from_tokenizer(tokenizer))


def rendered(tokenizer: Any, *texts: str, split_generation_prompt: bool = True) -> list[int]:
    """Ids of the template's rendering of the texts, user first, tokenized at once."""
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": text}
        for number, text in enumerate(texts)
    ]
    text = tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=split_generation_prompt,
        enable_thinking=False,
        date_string=DATE,
    )
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def test_conversations_are_the_templates(tokenizer: Any) -> None:
    chat = ChatFormat.from_tokenizer(tokenizer)
    first, answer = chat.encode_first_prompt(TOLD), chat.encode_answer("A")
    grown = first + answer + chat.encode_next_prompt(LATER, ended=False)
    begun, whole = rendered(tokenizer, TOLD), rendered(tokenizer, TOLD, "A", LATER)
    told = chat.generation_prompt.removesuffix("<|channel|>final<|message|>")
    if told == chat.generation_prompt:
        assert first == begun
    else:  # The channel, which a harmony template leaves to the model.
        assert first[: len(begun)] == begun
        whole += first[len(begun) :]
    # What Qwen3's template drops from past answers: their empty thought.
    thought = "<think>\n\n</think>\n\n"
    if thought in chat.generation_prompt:
        dropped = chat.decode(grown).replace(thought + "A", "A", 1)
        assert dropped == chat.decode(whole)
    else:
        assert grown == whole
    assert first.count(tokenizer.bos_token_id) <= 1
    assert chat.end_ids and chat.closing_ids == chat.end_ids


def test_labels_have_tokens_of_their_own(tokenizer: Any) -> None:
    chat = ChatFormat.from_tokenizer(tokenizer)
    given = [*LABEL_SETS.values(), ("<A>", "<B>"), ("<Cooperate>", "<Defect>"), ("C", "D")]
    given += [random_labels((seed, 0, 0), length, "run") for seed in range(5) for length in LENGTHS]
    for labels in given:
        if labels == LABEL_SETS["reserved"] and chat.control_pattern.search(chat.decode([7, 8])):
            continue
        one = chat.with_token_labels(labels)
        for label, ids in zip(labels, one.encode_labels(labels), strict=True):
            assert one.decode(ids).strip() == label
            assert (
                one.encode_first_prompt(TOLD)[-1:] + ids
                == one.encode_first_prompt(TOLD + label)[-1:] + ids
            )


def patterns() -> dict[str, list[Any]]:
    """Every form that the split games ask for, under all delimiters, by its grammar."""
    found: dict[str, list[Any]] = {Thinking(40).decoding_pattern: [Thinking(40)]}
    for name in GAMES:
        game = make_game({"name": name, "message_limit": 40})
        for protocol in PROTOCOLS.values():
            for finalization in ("own", "all"):
                prompt = Negotiation(protocol=protocol, finalization=finalization)
                for turn in example_turns(game):
                    form = prompt.form(game, turn)
                    found.setdefault(form.decoding_pattern, []).append(form)
    return found


FORMS = cache(patterns)


@pytest.mark.slow
def test_grammars_write_what_is_read(tokenizer: Any, grammars: GrammarCompiler) -> None:
    chat = ChatFormat.from_tokenizer(tokenizer)
    control = set(tokenizer.all_special_ids)
    rng = np.random.default_rng(0)
    for number, (guide, forms) in enumerate(FORMS().items()):
        grammar = grammars.compile(guide)
        longest = chat.encode_text(forms[0].longest)
        assert grammar.start().allows(longest), guide
        if number % 4:  # Masks of a quarter of a million tokens take a while.
            continue
        matcher, ids, chosen = grammar.start(), list[int](), 0
        ids += matcher.fast_forward()
        while not matcher.finished and chosen < 60:
            token = int(rng.choice(matcher.mask().tokens))
            matcher.accept(token)
            chosen += 1
            if token in matcher.end_ids:
                break
            ids += [token, *matcher.fast_forward()]
        assert not control & set(ids)
        if matcher.finished or matcher.accepting:
            forms_read = [one.read(chat.decode(ids)) for one in forms]
            assert all(isinstance(read, (tuple, str, int)) for read in forms_read), ids


def test_no_text_is_a_control_token_for_a_grammar(
    tokenizer: Any, grammars: GrammarCompiler
) -> None:
    chat = ChatFormat.from_tokenizer(tokenizer)
    spelled = f"a {chat.answer_end.strip()} b<think>c{chat.generation_prompt.split()[0]}"
    matcher = grammars.compile(re.escape(spelled).replace("\\\n", "\n")).start()
    ids = matcher.fast_forward()
    while not matcher.finished:
        token = int(matcher.mask().tokens[0])
        matcher.accept(token)
        ids += [token, *matcher.fast_forward()]
    assert chat.decode(ids) == spelled
    assert not set(tokenizer.all_special_ids) & set(ids)
    anything = grammars.compile("(?s:.){1,300}").start().mask()
    assert not set(tokenizer.all_special_ids) & set(anything.tokens.tolist())
    assert anything.count > 0.9 * len(tokenizer)


def test_in_plain_text_every_line_break_ends(tokenizer: Any) -> None:
    """As base models of these families are told: without a template."""
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        chat = ChatFormat.from_tokenizer(tokenizer)
    finally:
        tokenizer.chat_template = template
    for end in ("\n", "\n\n", " \n", "\r\n", "\n\n\n", ">\n", ">\n\n"):
        ids = chat.encode_answer("A" + end)
        (last,) = [i for i, token in enumerate(ids) if token in chat.end_ids][:1]
        assert chat.answer_text(ids[: last + 1]).strip() == f"A{end}".partition("\n")[0].strip()
    assert all("\n" in chat.decode([i]) for i in chat.end_ids - {tokenizer.eos_token_id})


def test_only_these_tokens_are_missing_from_a_smaller_model(tokenizer: Any) -> None:
    """Gemma-3-1B has one row less than its tokenizer has tokens."""
    chat = ChatFormat.from_tokenizer(tokenizer)
    size = max(tokenizer.get_vocab().values()) + 1
    assert chat.for_vocabulary(size) is chat
    last = tokenizer.convert_ids_to_tokens(size - 1)
    fixed = chat.conversation_start + chat.generation_prompt + chat.answer_end + chat.user_header
    if size - 1 in tokenizer.added_tokens_decoder and last not in fixed:
        fit = chat.for_vocabulary(size - 1)
        assert max(fit.encode_first_prompt(f"a {last}")) < size - 1
        assert replace(fit, control_pattern=chat.control_pattern, vocabulary_size=None) == chat
