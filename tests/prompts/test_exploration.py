"""Exploration prompts: which are drawn how often, where they stand, and what is refused."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from comity.engines.chat import ChatFormat
from comity.engines.local.models import load_tokenizer
from comity.errors import ComityError
from comity.games.base import Turn
from comity.prompts import PROMPTS
from comity.prompts.exploration import INSTRUCTIONS, Exploration, ExplorationPrompt
from comity.registry import build
from tests.engines.test_chat import FORGERIES, NO_SYSTEM, QWEN3
from tests.players.answer_models import split
from tests.tiny import make_tokenizer
from tests.worlds import dilemma

PUBLISHED = Exploration.of(
    [
        {"text": "welfare_maximizing", "probability": 0.2},
        {"text": "greedy", "probability": 0.2},
    ]
)
OWN = "Say as little as you can."


def test_the_frequencies_are_those_configured() -> None:
    count = Counter(
        PUBLISHED.sample_instruction((seed, 0, match), seat, round)
        for seed in range(10)
        for match in range(25)
        for seat in range(2)
        for round in range(20)
    )
    expected = {
        INSTRUCTIONS["welfare_maximizing"]: 0.2,
        INSTRUCTIONS["greedy"]: 0.2,
        "": 0.6,
    }
    assert set(count) == set(expected)
    total = count.total()
    found = stats.chisquare([count[k] for k in expected], [p * total for p in expected.values()])
    assert total == 10_000 and found.pvalue > 0.01


def test_draws_depend_on_the_match_the_seat_and_the_round_alone() -> None:
    places = [(m, s, r) for m in range(6) for s in range(2) for r in range(8)]

    def drawn(order: list[tuple[int, int, int]]) -> dict[tuple[int, int, int], str]:
        return {
            place: PUBLISHED.sample_instruction((3, 1, place[0]), *place[1:]) for place in order
        }

    assert drawn(places) == drawn(places[::-1])
    for part in range(3):  # none of them is left out of the stream's identity
        told: dict[tuple[int, ...], set[str]] = {}
        for place, text in drawn(places).items():
            told.setdefault(tuple(p for i, p in enumerate(place) if i != part), set()).add(text)
        assert any(len(texts) > 1 for texts in told.values())


def test_one_that_is_sure_is_told_always_and_none_never() -> None:
    sure = Exploration.of([{"text": f" {OWN} ", "probability": 1}])
    assert {sure.sample_instruction((0, 0, m), 0, 0) for m in range(200)} == {OWN}
    none = Exploration()
    assert not none and none.sample_instruction((0, 0, 0), 0, 0) == ""
    tenths = Exploration.of([{"text": "greedy", "probability": 0.1}] * 10)
    assert "" not in {tenths.sample_instruction((0, 0, m), 0, 0) for m in range(200)}


BAD: dict[str, list[dict[str, Any]]] = {
    "add up to 1.1; they may be 1 at most": [
        {"text": "greedy", "probability": 0.7},
        {"text": OWN, "probability": 0.4},
    ],
    "has no text": [{"text": "  ", "probability": 0.1}],
    "did you mean greedy": [{"text": "greedi", "probability": 0.1}],
    "write a sentence on one line": [{"text": "Be kind.\nBe fair.", "probability": 0.1}],
    "above 0 and at most 1, not 0": [{"text": "greedy", "probability": 0}],
    "above 0 and at most 1, not 1.5": [{"text": "greedy", "probability": 1.5}],
    "above 0 and at most 1, not nan": [{"text": "greedy", "probability": float("nan")}],
}


@pytest.mark.parametrize("complaint", BAD)
def test_what_is_no_exploration_is_refused_in_a_line(complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint) as refused:
        Exploration.of(BAD[complaint])
    assert "\n" not in str(refused.value)


def test_prompts_without_a_place_are_refused() -> None:
    for name in PROMPTS:
        prompt = build("prompt", name, PROMPTS)
        assert isinstance(prompt, ExplorationPrompt) == (name in ("conversation", "negotiation"))
        if isinstance(prompt, ExplorationPrompt):
            PUBLISHED.check(prompt)
            continue
        Exploration().check(prompt)
        with pytest.raises(ComityError, match="no place for extra instructions"):
            PUBLISHED.check(prompt)


def texts(prompt: Any, game: Any, *answers: Any) -> list[tuple[Turn, str, str | None]]:
    """Seat 0's turns with their texts and endings, when all answer so, step by step."""
    state, found = game.start(0), []
    for answer in (*answers, None):
        turns = game.turns(state)
        for turn in turns:
            if turn.seat == 0:
                text = prompt.opening(game, turn) if not found else prompt.following(game, turn)
                found.append((turn, text, prompt.ending(game, turn)))
        if answer is not None:
            state = game.step(state, {turn.seat: answer for turn in turns})
    return found


def test_in_negotiations_they_stand_before_what_others_wrote_and_the_request() -> None:
    game = split(starter="fixed", messages=2)
    prompt: Any = build("prompt", "negotiation", PROMPTS)
    steps = ["Hello", "Hi there", "So?", "Yes", (5,), "Again", "Fine"]
    found = texts(prompt, game, *steps)
    assert [turn.kind for turn, _, _ in found[:4]] == ["message", "message", "claim", "message"]
    for number, (turn, text, ending) in enumerate(found):
        first = turn.round * 3 == number
        assert (ending is not None) == first, "the first turn of a round alone"
        if ending is not None:
            facts = text.removesuffix(f"\n{ending}")
            assert facts != text and facts.splitlines()[-1].startswith(f"Round {turn.round + 1}: ")
            assert ending.startswith("Write to Bob now")
    # Whoever speaks second has heard something already.
    other = split(starter="fixed")
    state = other.step(other.start(0), {0: "Hello"})
    (turn,) = other.turns(state)
    ending = prompt.ending(other, turn)
    assert turn.seat == 1 and ending.splitlines()[0] == "Alice: Hello"
    assert prompt.opening(other, turn).endswith(f"\n{ending}")


def test_in_dilemmas_they_stand_before_the_question_or_after_the_news() -> None:
    for extra in ({}, {"feedback": "other", "state_error_rule": True, "labels": ["<A>", "<B>"]}):
        prompt: Any = build("prompt", {"name": "conversation", **extra}, PROMPTS)
        (_, opening, question), *later = texts(prompt, dilemma(3), 0, 1)
        assert question and opening.endswith(f"\n{question}") and "\n" not in question
        assert [ending for _, _, ending in later] == ["", ""]


# ---- as tokens -------------------------------------------------------------------------------
def formats() -> dict[str, ChatFormat]:
    found = {"plain": ChatFormat.from_tokenizer(make_tokenizer(chat=False))}
    for name, template in (("chatml", None), ("qwen3", QWEN3), ("trimmed", NO_SYSTEM)):
        tokenizer = make_tokenizer()
        if template is not None:
            tokenizer.chat_template = template
        found[name] = ChatFormat.from_tokenizer(tokenizer)
    found["merging"] = ChatFormat.from_tokenizer(merging())
    return found


def merging() -> Any:
    """A tokenizer without a template that makes one token of a full stop and a line break."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["here.\nAnswer: A.\nWrite.\n"] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


FORMATS = formats()
LETTERS = st.text(st.sampled_from("aA.\n :<>é世WriteAnswer"), max_size=20)


def whole(chat: ChatFormat, text: str, ended: bool | None) -> list[int]:
    return chat.encode_first_prompt(text) if ended is None else chat.encode_next_prompt(text, ended)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*FORMATS]),
    LETTERS,
    st.one_of(LETTERS, st.sampled_from(FORGERIES)),
    st.sampled_from([None, False, True]),
)
def test_without_the_line_all_ids_are_those_of_the_text(
    name: str, before: str, after: str, ended: bool | None
) -> None:
    """Wherever it is put, also inside what the tokenizer makes one token of."""
    chat = FORMATS[name]
    first, line, rest = chat.encode_with_insertion(before + after, len(before), OWN, ended)
    assert first + rest == whole(chat, before + after, ended)
    assert chat.decode(line).strip() == OWN and line == chat.encode_text(chat.decode(line))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ended", [None, False, True])
def test_the_line_stands_by_itself_between_lines(name: str, ended: bool | None) -> None:
    chat = FORMATS[name]
    assert (len(chat.encode_text("B.\n")) == 2) == (name == "merging"), (
        "there only the joint is hidden"
    )
    for before, after in (("Round 1.\n", "Write here."), ("You A, they B.", ""), ("News.", "\nT")):
        text = before + after
        first, line, rest = chat.encode_with_insertion(text, len(before), OWN, ended)
        told = chat.decode([*first, *line, *rest])
        bare = chat.decode(whole(chat, text, ended))
        # The template's own line break after a turn may serve as the line's end.
        assert told.replace(f"\n{OWN}", "", 1) == bare or told.replace(f"{OWN}\n", "", 1) == bare
        at = told.index(OWN)
        assert told[at - 1] == "\n"
        ends = ("\n", "<|im_end|>")
        assert told[at + len(OWN) :].startswith(ends)


def test_a_control_token_in_an_instruction_would_be_letters() -> None:
    chat = FORMATS["chatml"]
    (end,) = chat.end_ids
    for forgery in FORGERIES:
        _, line, _ = chat.encode_with_insertion("Round 1.\nWrite.", 9, forgery, None)
        assert end not in line


@pytest.mark.parametrize("name", ["trust_and_split", "trust_and_split_rps", "ultimatum"])
def test_the_default_model_reads_the_line_as_if_it_were_part_of_the_text(
    name: str, smollm2: Path
) -> None:
    """The ids around it are the text's, and with it they are those of a text that has it."""
    chat = ChatFormat.from_tokenizer(load_tokenizer(str(smollm2)))
    prompt: Any = build("prompt", "negotiation", PROMPTS)
    game = split(name, starter="fixed")
    told = texts(prompt, game, *([(5,), 0] * 2 if name == "ultimatum" else ["Hi.", "Ok?"]))
    dilemmas: Any = build("prompt", "conversation", PROMPTS)
    told += texts(dilemmas, dilemma(3), 0, 1)
    for _, text, ending in told:
        for ended in (None, False, True):
            if ending is None:
                continue
            at = len(text) - len(ending)
            first, line, rest = chat.encode_with_insertion(text, at, OWN, ended)
            assert first + rest == whole(chat, text, ended)
            after = f"{OWN}\n{ending}" if ending else f"\n{OWN}"
            assert first + line + rest == whole(chat, text[:at] + after, ended)
