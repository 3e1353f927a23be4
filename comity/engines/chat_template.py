"""Chat templates: rendering them, and closing the thinking that they open.

Answers are the labels, claims and messages that a game asks for, so the model does not think
before them. Templates that can leave thinking out are asked to. Others open a block of thought
in front of every answer: it is closed again, empty.
"""

import re
from typing import Any

from comity.errors import ComityError

DATE = "26 Jul 2024"
"""What templates that tell today's date are given: runs must not depend on the day."""
_SAME_DAY = "{% macro strftime_now(format) %}" + DATE + "{% endmacro %}\n"
"""Stands before a template and takes the place of its clock."""
_NO_THINKING = {"enable_thinking": False, "thinking": False}
"""What templates call it."""

_TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|◁[^◁▷\s]+▷")
_CLOSES = re.compile(r"[<\[◁]\|?(/|end_|end▁)", re.IGNORECASE)
_NAMED = re.compile(r"(start|begin)([_▁])", re.IGNORECASE)
"""<|START_THINKING|> ... <|END_THINKING|>, <|begin_of_thought|> ... <|end_of_thought|>."""
_THOUGHT = re.compile(r"think|thought|reason", re.IGNORECASE)
"""What tags of thoughts are called."""


def render(tokenizer: Any, messages: list[dict[str, str]], system: str | None) -> str:
    """The template's rendering up to where the model answers."""
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
    except Exception as problem:  # templates raise what they like
        what = "refuses a system prompt" if system else "cannot be used"
        advice = "leave model.system empty" if system else "use another model"
        raise ComityError(f"the model's chat template {what} ({problem}); {advice}") from problem
    return text


def answering(to_answer: str, between: str, known: set[str]) -> tuple[str, str]:
    """What is told in front of an answer, and what the model writes itself before it.

    `to_answer`: what the template renders where the model answers. `between`: what it renders
    between a question and an answer that was given. `known`: all added tokens. Raises
    ComityError where thinking is opened and nobody knows what closes it.
    """
    rest = between.removeprefix(to_answer)
    inside = _thought(to_answer) and not _CLOSES.match(rest.lstrip())
    if inside or not between.startswith(to_answer):
        return to_answer + _closing(to_answer, between, known), ""
    # An answer's own header may stand there only where the answer is told; spaces before an
    # answer belong to its first token.
    told = rest.rstrip(" ") if rest.strip() else ""
    return to_answer + told, rest.removeprefix(told)


def _closing(to_answer: str, between: str, known: set[str]) -> str:
    """What closes that which is opened in front of answers, but not in front of past ones."""
    same = 0
    while same < min(len(to_answer), len(between)) and to_answer[same] == between[same]:
        same += 1
    # Two tags may begin with the same letters; a thought is none of an answer's header.
    inside = [tag for tag in _TAG.finditer(to_answer) if tag.start() <= same < tag.end()]
    thought = _thought(to_answer)
    same = min([same, *(tag.start() for tag in inside), *([thought.start()] if thought else [])])
    opened = to_answer[same:]
    left = _left_open(opened)
    ends = [tag.end() for tag in _TAG.finditer(opened) if _CLOSES.match(tag[0])]
    # What stands before past answers as well is their header.
    if not left or (not thought and between.endswith(opened[max(ends, default=0) :])):
        return ""
    tag = left[-1]
    close = (
        _NAMED.sub(lambda found: _like(found[1], "end") + found[2], tag, count=1)
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


def _thought(to_answer: str) -> re.Match[str] | None:
    """The tag that opens a thought in which a text ends."""
    found = [tag for tag in _TAG.finditer(to_answer) if not to_answer[tag.end() :].strip()]
    opens = found and _THOUGHT.search(found[0][0]) and not _CLOSES.match(found[0][0])
    return found[0] if opens else None


def _left_open(text: str) -> list[str]:
    """The tags that a text opens and does not close; what closes one is taken to close the last."""
    left: list[str] = []
    for tag in _TAG.findall(text):
        if not _CLOSES.match(tag):
            left.append(tag)
        elif left:
            left.pop()
    return left


def _like(example: str, word: str) -> str:
    """`word` in the case of another."""
    return word.upper() if example.isupper() else word
