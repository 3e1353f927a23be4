"""Generation prompts of other families: thinking is closed, and answers' headers are told."""

import pytest

from comity.engines.chat import ChatFormat
from comity.errors import ComityError
from tests.tiny import make_tokenizer

TURN = "<|im_start|>{{ m.role }}\n%s<|im_end|>\n"
SAID = TURN % "{{ m.content }}"


def template(
    generation_prompt: str, past: str = SAID, header: str = "<|im_start|>assistant\n"
) -> str:
    """One that opens something in front of answers, and renders past answers as `past`."""
    return (
        "{% for m in messages %}{% if m.role == 'user' %}" + SAID + "{% else %}" + past + "{% endif"
        " %}{% endfor %}{% if add_generation_prompt %}" + header + generation_prompt + "{% endif %}"
    )


def chat(given: str, *added: str) -> ChatFormat:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(list(added))
    tokenizer.chat_template = given
    return ChatFormat.from_tokenizer(tokenizer)


THINKING = {
    "r1 distill": ("<think>\n", "<think>\n\n</think>\n\n"),
    "one line": ("<think>", "<think></think>"),
    "other name": ("<thinking>\n", "<thinking>\n\n</thinking>\n\n"),
    "with a namespace": ("<seed:think>", "<seed:think></seed:think>"),
    "brackets": ("[THINK]", "[THINK][/THINK]"),
    "triangles": ("◁think▷", "◁think▷◁/think▷"),
    "command": ("<|START_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
    "sky": ("<|begin_of_thought|>\n", "<|begin_of_thought|>\n\n<|end_of_thought|>\n\n"),
    "bars": ("<|think|>", "<|think|><|/think|>"),
    "closed already": ("<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
    "end alone": ("</think>", "</think>"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("kind", THINKING)
@pytest.mark.parametrize("added", [False, True])
def test_thinking_that_a_template_opens_is_closed(kind: str, added: bool) -> None:
    opened, closed = THINKING[kind]
    tags = [part for part in closed.replace("><", ">\n<").replace("][", "]\n[").split() if part]
    one = chat(template(opened), *(tags if added else ()))
    header = "<|im_end|>\n<|im_start|>assistant\n"
    assert one.generation_prompt == header + closed
    text = one.decode(
        one.encode_first_prompt("A or B?")
        + one.encode_answer("A")
        + one.encode_next_prompt("Again?", False)
        + one.encode_answer("B")
    )
    assert text.endswith(f"{closed}B")
    assert text.count(closed or "A or B?") == (2 if closed else 1)
    if added and tags:
        ids = one.tokenizer.convert_tokens_to_ids(tags)
        assert [i for i in one.encode_first_prompt("A or B?") if i in ids] == ids


def test_past_answers_without_their_thoughts_as_r1_tells_them() -> None:
    past = TURN % "{{ m.content.split('</think>')[-1] }}"
    one = chat(template("<think>\n", past), "<think>", "</think>")
    assert one.generation_prompt.endswith("<think>\n\n</think>\n\n")


def test_past_answers_with_an_empty_thought() -> None:
    past = TURN % "<think>\n\n</think>\n\n{{ m.content }}"
    for opened in ("<think>\n", "<think>\n\n</think>\n\n", ""):
        one = chat(template(opened, past), "<think>", "</think>")
        assert one.generation_prompt.endswith("assistant\n<think>\n\n</think>\n\n")
        assert one.answer_prefix == ""


def test_a_thought_that_past_answers_are_told_in_as_well() -> None:
    past = TURN % "<think>\n{{ m.content }}"
    one = chat(template("<think>\n", past), "<think>", "</think>")
    assert one.generation_prompt.endswith("assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize("added", [False, True])
def test_a_header_of_answers_after_a_thought_is_told(added: bool) -> None:
    """A closed thought, then what past answers stand in as well: nothing is closed in front."""
    tags = [f"<|{end}_{what}|>" for what in ("THINKING", "RESPONSE") for end in ("START", "END")]
    past = TURN % "<|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>"
    opened = "<|START_THINKING|><|END_THINKING|><|START_RESPONSE|>"
    one = chat(template(opened, past), *(tags if added else ()))
    assert one.generation_prompt.endswith(f"assistant\n{opened}")
    assert one.decode(one.encode_first_prompt("A or B?") + one.encode_answer("A")).endswith(
        "<|START_RESPONSE|>A"
    )


def test_switches_of_templates_are_off() -> None:
    for switch in ("enable_thinking", "thinking"):
        given = "{% if " + switch + " is not defined or " + switch + " %}<think>{% endif %}"
        assert chat(template(given)).generation_prompt.endswith("assistant\n")


def test_channels_of_answers_are_told() -> None:
    """A harmony template leaves the channel to the model; thinking has one of its own."""
    tags = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")
    given = (
        "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final"
        "{% endif %}<|message|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    )
    one = chat(given, *tags)
    assert one.generation_prompt == "<|end|><|start|>assistant<|channel|>final<|message|>"
    assert one.answer_end == "<|end|>" and one.answer_prefix == ""
    assert one.tokenizer.convert_tokens_to_ids("<|end|>") in one.end_ids
    analysis = given.replace("<|start|>assistant{% endif", "<|start|>assistant<|channel|>analysis"
                             "<|message|>{% endif")  # fmt: skip
    with pytest.raises(ComityError, match="does not know how to close it") as refused:
        chat(analysis, *tags)
    assert "analysis" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "opened",
    ["<|thoughts|>", "<think>\nI will", "<a><think>", "<seed:think><seed:cot_budget_reflect>"],
)
def test_what_nobody_can_close_is_refused(opened: str) -> None:
    with pytest.raises(ComityError, match="does not know how to close it"):
        chat(template(opened), opened)


def test_a_template_without_a_generation_prompt() -> None:
    one = chat("{% for m in messages %}" + SAID + "{% endfor %}")
    assert one.generation_prompt == "<|im_end|>\n<|im_start|>assistant\n"
    assert (one.answer_prefix, one.answer_end) == ("", "<|im_end|>")
    plain = chat("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    assert (plain.generation_prompt, plain.answer_prefix) == ("\nassistant:", " ")
    assert (plain.answer_end, plain.user_header) == ("\n", "user: ")
    assert plain.tokenizer.encode("\n")[0] in plain.end_ids
