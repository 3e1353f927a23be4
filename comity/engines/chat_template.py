"""Rendering chat templates, and closing the thinking block that some of them open.

Answers are the labels, claims and messages that a game asks for, without thinking before them.
Templates with a switch for thinking get it turned off. Where a template opens a thinking block
in front of every answer, the block is closed again, empty.
"""

import re
from typing import Any

from comity.errors import ComityError

_MARKS = ("Comity1question", "Comity2answer", "Comity3question")
DATE = "26 Jul 2024"
"""The date for templates that print today's: runs must not depend on the day."""
_SAME_DAY = "{% macro strftime_now(format) %}" + DATE + "{% endmacro %}\n"
"""Put before a template, it replaces the template's clock."""
_NO_THINKING = {"enable_thinking": False, "thinking": False}
"""Names of the switch in templates."""

_TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|◁[^◁▷\s]+▷")
_CLOSES = re.compile(r"[<\[◁]\|?(/|end_|end▁)", re.IGNORECASE)
_NAMED = re.compile(r"(start|begin)([_▁])", re.IGNORECASE)
"""<|START_THINKING|> ... <|END_THINKING|>, <|begin_of_thought|> ... <|end_of_thought|>."""
_THOUGHT = re.compile(r"think|thought|reason", re.IGNORECASE)
"""What names of thinking tags contain."""


def render(tokenizer: Any, messages: list[dict[str, str]], system: str | None) -> str:
    """The conversation as the template renders it, up to where the model answers."""
    opening = [{"role": "system", "content": system}] if system else []
    try:
        text: str = tokenizer.apply_chat_template(
            opening + messages,
            chat_template=_SAME_DAY + tokenizer.get_chat_template(),
            tokenize=False,
            add_generation_prompt=True,
            date_string=DATE,
            **_NO_THINKING,
        )
    except Exception as problem:  # templates raise errors of any type
        what = "refuses a system prompt" if system else "cannot be used"
        advice = "leave model.system empty" if system else "use another model"
        raise ComityError(f"the model's chat template {what} ({problem}); {advice}") from problem
    return text


def fixed_parts(tokenizer: Any, system: str | None) -> tuple[str, str, str, str]:
    """What the template renders before the first question, between a question and its answer,
    between an answer and the next question, and after the last question.

    Raises `ComityError` where the template refuses the system prompt or does not render
    conversations incrementally.
    """
    first, answer, second = _MARKS
    asked = [{"role": "user", "content": first}, {"role": "user", "content": second}]
    answered = {"role": "assistant", "content": answer}
    whole = render(tokenizer, [asked[0], answered, asked[1]], system)
    if [len(whole.split(mark)) for mark in _MARKS] != [2, 2, 2]:
        raise ComityError(
            "the model's chat template changes or drops what is said, so games cannot be "
            "rendered in it; use another model, or remove the template to render plain text"
        )
    before, rest = whole.split(first)
    between, rest = rest.split(answer)
    after, end = rest.split(second)
    if render(tokenizer, asked[:1], system) != before + first + end:
        raise ComityError(
            "the model's chat template rewrites its beginning when the conversation grows"
            + ("; leave model.system empty" if system else "; use another model")
        )
    longer = render(tokenizer, [asked[0], answered, asked[1], answered, asked[0]], system)
    if longer != whole.removesuffix(end) + between + answer + after + first + end:
        raise ComityError(
            "the model's chat template renders later rounds unlike the first ones (it may number "
            "them), so conversations cannot grow in it; use another model"
        )
    return before, between, after, end


def split_generation_prompt(
    generation_prompt: str, between: str, known: set[str]
) -> tuple[str, str]:
    """The part of the prompt in front of an answer, and the prefix that the model must generate.

    `generation_prompt`: as the template renders it. `between`: what the template renders between
    a question and a past answer. `known`: all added tokens. Raises ComityError for an open
    thinking block with an unknown closing tag.
    """
    rest = between.removeprefix(generation_prompt)
    inside = _open_thought(generation_prompt) and not _CLOSES.match(rest.lstrip())
    if inside or not between.startswith(generation_prompt):
        return generation_prompt + _close_thinking(generation_prompt, between, known), ""
    # Some templates render an answer's header only with a past answer. Spaces before an answer
    # belong to its first token.
    in_prompt = rest.rstrip(" ") if rest.strip() else ""
    return generation_prompt + in_prompt, rest.removeprefix(in_prompt)


def _close_thinking(generation_prompt: str, between: str, known: set[str]) -> str:
    """The text that closes the thinking block that the generation prompt opens; "" for none."""
    same = 0
    while (
        same < min(len(generation_prompt), len(between))
        and generation_prompt[same] == between[same]
    ):
        same += 1
    # Two tags may begin with the same letters. A thinking tag is not part of an answer's header.
    inside = [tag for tag in _TAG.finditer(generation_prompt) if tag.start() <= same < tag.end()]
    thought = _open_thought(generation_prompt)
    same = min([same, *(tag.start() for tag in inside), *([thought.start()] if thought else [])])
    opened = generation_prompt[same:]
    left = _unclosed_tags(opened)
    ends = [tag.end() for tag in _TAG.finditer(opened) if _CLOSES.match(tag[0])]
    # Text that also stands before past answers is their header.
    if not left or (not thought and between.endswith(opened[max(ends, default=0) :])):
        return ""
    tag = left[-1]
    close = (
        _NAMED.sub(lambda found: _match_case(found[1], "end") + found[2], tag, count=1)
        if _NAMED.search(tag)
        else re.sub(r"^([<\[◁]\|?)", r"\1/", tag)
    )
    if len(left) == 1 and opened.strip().endswith(tag) and (tag not in known or close in known):
        return f"\n{close}\n\n" if opened.endswith("\n") else f"{close}"
    raise ComityError(
        f"the model's chat template begins every answer with {opened.strip()!r}, which it does "
        "not tell of past answers, and Comity does not know how to close it; use another model "
        "or another template"
    )


def _open_thought(generation_prompt: str) -> re.Match[str] | None:
    """The tag of the thinking block that a text ends in."""
    found = [
        tag
        for tag in _TAG.finditer(generation_prompt)
        if not generation_prompt[tag.end() :].strip()
    ]
    opens = found and _THOUGHT.search(found[0][0]) and not _CLOSES.match(found[0][0])
    return found[0] if opens else None


def _unclosed_tags(text: str) -> list[str]:
    """The tags that a text opens and does not close; each closing tag closes the last one."""
    left: list[str] = []
    for tag in _TAG.findall(text):
        if not _CLOSES.match(tag):
            left.append(tag)
        elif left:
            left.pop()
    return left


def _match_case(example: str, word: str) -> str:
    """`word` in upper case if `example` is, else as it is."""
    return word.upper() if example.isupper() else word
