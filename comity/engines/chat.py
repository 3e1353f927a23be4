"""Text to tokens, once: how a conversation grows without ever being tokenized again.

A chat template renders a whole conversation to one string. A session instead appends: what
is told, then what the model answers, then what is told next. `ChatFormat` finds the
template's fixed parts by rendering a conversation of marker words and cutting it at them:

    before | user's text | to_answer | answer | answer_end + to_user | user's text | ...

`to_answer` is the generation prompt, so whatever the template puts there (Qwen3's empty
think block) stands in front of every answer. A tokenizer without a chat template tells
plain text: the user's text, a line with "Answer:", and the answer after a space, ended by
a line break.

Labels written `⟦id⟧` may stand for single tokens of the vocabulary, whatever their text
(`ChatFormat.numbered`): tokens that hardly occur in texts have no meaning of their own.

Text that is told may hold anything, also other models' words: a control token spelled out
in it is encoded as ordinary letters and can never close a turn or open another.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from comity.engines.chat_template import answering, render
from comity.engines.control_tokens import broken, control_tokens, line_breaks, spelling
from comity.errors import ComityError

_MARKS = ("Comity1question", "Comity2answer", "Comity3question")
_NUMBERED = re.compile(r"⟦(\d+)⟧")
_REMEMBERED = 4096
"""Texts whose ids are kept."""


@dataclass(frozen=True)
class ChatFormat:
    """The fixed parts of a tokenizer's conversations, as text."""

    before: str
    """What stands before the user's first text: system prompt and user header."""
    to_answer: str
    """From the end of the user's text to where the model answers."""
    answer_prefix: str
    """What an answer starts with that the model itself must write (a space in plain text)."""
    answer_end: str
    """What ends an answer; the model may sample it, else it is appended."""
    to_user: str
    """From the end of the answer's turn to the user's next text."""
    end_ids: frozenset[int]
    """Ids that end an answer when they are sampled."""
    closing_ids: frozenset[int]
    """Those of them that say nothing else. In plain text tokens like `.` and a line break end
    an answer too, and what stands before the line break belongs to it."""
    tokenizer: Any = field(repr=False, compare=False)
    control: re.Pattern[str] = field(repr=False, compare=False)
    """Matches every control token spelled out in text."""
    rows: int | None = None
    """How many of the tokens the model has, where it lacks some (`within`)."""
    tokens: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Labels that are single tokens of these ids."""
    _seen: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    """Ids of texts that were encoded before."""

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, system: str | None = None) -> "ChatFormat":
        """The format of the tokenizer's chat template, or the plain one where it has none.

        `system` is the system prompt; None leaves it to the template. Raises ComityError
        where the template refuses it or cannot tell a growing conversation.
        """
        if tokenizer.chat_template is None:
            return cls._plain(tokenizer, system)
        first, answer, second = _MARKS
        question = {"role": "user", "content": first}
        rounds = [question, {"role": "assistant", "content": answer}]
        whole = render(tokenizer, [*rounds, {"role": "user", "content": second}], system)
        if [len(whole.split(mark)) for mark in _MARKS] != [2, 2, 2]:
            raise ComityError(
                "the model's chat template changes or drops what is said, so games cannot be "
                "told in it; use another model, or remove the template to tell plain text"
            )
        before, rest = whole.split(first)
        between, rest = rest.split(answer)
        after, to_answer = rest.split(second)
        if render(tokenizer, [question], system) != before + first + to_answer:
            raise ComityError(
                "the model's chat template rewrites its beginning when the conversation grows"
                + ("; leave model.system empty" if system else "; use another model")
            )
        known = {token.content for token in tokenizer.added_tokens_decoder.values()}
        to_answer, prefix = answering(to_answer, between, known)
        control = spelling(control_tokens(tokenizer))
        # The turn ends with the first control token, if only white space stands before it.
        found = control.search(after)
        closed = found is not None and not after[: found.start()].strip()
        ends = {tokenizer.eos_token_id} - {None}
        lines: dict[int, str] = {}
        cut = 0
        if found is not None and closed:
            ends.add(tokenizer.convert_tokens_to_ids(found.group()))
            cut = found.end()
        elif after.lstrip(" ").startswith("\n"):
            # A template of plain words: its lines end as those without a template do.
            lines = line_breaks(tokenizer)
            cut = after.index("\n") + 1
        return cls(
            before=before,
            to_answer=to_answer,
            answer_prefix=prefix,
            answer_end=after[:cut],
            to_user=after[cut:],
            end_ids=frozenset(ends.union(lines)),
            closing_ids=_closing(ends, lines),
            tokenizer=tokenizer,
            control=control,
        )

    @classmethod
    def _plain(cls, tokenizer: Any, system: str | None) -> "ChatFormat":
        encoded = tokenizer.encode("a\n")
        begins = tokenizer.bos_token is not None and encoded[0] == tokenizer.bos_token_id
        ends, lines = {tokenizer.eos_token_id} - {None}, line_breaks(tokenizer)
        return cls(
            before=(tokenizer.bos_token if begins else "") + (f"{system}\n\n" if system else ""),
            to_answer="\nAnswer:",
            answer_prefix=" ",
            answer_end="\n",
            to_user="",
            end_ids=frozenset(ends.union(lines)),
            closing_ids=_closing(ends, lines),
            tokenizer=tokenizer,
            control=spelling(control_tokens(tokenizer)),
        )

    def numbered(self, labels: Sequence[str]) -> "ChatFormat":
        """This format, in which labels written `⟦id⟧` are the tokens with these ids.

        Raises ComityError for ids that are not in the vocabulary or mark the turns.
        """
        found = {label: int(match[1]) for label in labels if (match := _NUMBERED.fullmatch(label))}
        fixed = self.before + self.to_answer + self.answer_end + self.to_user
        marks = {match.group() for match in self.control.finditer(fixed)}
        known = len(self.tokenizer) if self.rows is None else self.rows
        for label, number in found.items():
            if number >= known:
                raise ComityError(f"label {label!r}: the model's vocabulary has {known} tokens")
            text = self.tokenizer.decode([number])
            if number in self.end_ids or text in marks:
                raise ComityError(
                    f"label {label!r} is {text!r}, which marks turns in the model's conversations; "
                    "choose other ids"
                )
        return replace(self, tokens=found, _seen={}) if found else self

    def within(self, rows: int, labels: Sequence[str] = ()) -> "ChatFormat":
        """This format for a model with so many rows: tokens beyond them are spelled in letters.

        Some tokenizers have more tokens than the model (Gemma-3-1B's: one for images). Raises
        ComityError where such a token is no mere addition, marks turns, or is a label.
        """
        size = max(self.tokenizer.get_vocab().values()) + 1
        if size <= rows:
            return self
        numbers = f"the tokenizer has {size} tokens, the model {rows}"
        added = {i: one.content for i, one in self.tokenizer.added_tokens_decoder.items()}
        beyond = {i: text for i, text in added.items() if i >= rows}
        fixed = set(self._encode(self.before + self.to_answer + self.answer_end + self.to_user))
        if size - rows > len(beyond) or not fixed.isdisjoint(beyond):
            raise ComityError(
                f"the model lacks tokens that its conversations need: {numbers}; use the tokenizer "
                "that the model was trained with, or resize the model's embedding"
            )
        unknown = [re.escape(text) for text in beyond.values() if text]
        for label in labels:
            if self.tokens.get(label, 0) >= rows or re.search("|".join(unknown) or "(?!)", label):
                raise ComityError(
                    f"label {label!r} is a token that the model does not have: {numbers}; choose "
                    "another label, or resize the model's embedding"
                )
        return replace(
            self,
            control=spelling(control_tokens(self.tokenizer) | beyond),
            end_ids=self.end_ids - beyond.keys(),
            closing_ids=self.closing_ids - beyond.keys(),
            rows=rows,
            _seen={},
        )

    def first(self, text: str) -> list[int]:
        """Ids from the start of a conversation to where the model answers `text`."""
        return self._told(self._before(None), text)

    def next(self, text: str, ended: bool) -> list[int]:
        """Ids to append after an answer, to where the model answers `text`.

        `ended`: the model sampled one of `end_ids` itself, so it is not told again.
        """
        return self._told(self._before(ended), text)

    def with_aside(
        self, text: str, at: int, aside: str, ended: bool | None
    ) -> tuple[list[int], list[int], list[int]]:
        """The ids of `first` (`ended` None) or `next` in two parts, and a line to stand between.

        Parts one and three together are exactly the ids without the line, whatever the tokenizer
        makes of the joint; the second holds `aside` as a line of its own, to be told before the
        text's character `at`, at the beginning or end of a line. Where the tokenizer joins the
        characters around `at` in one token, it is told after that.
        """
        before = self._before(ended)
        whole = self._told(before, text)
        if self.control.search(text):
            head = self._encode(before) + self._ordinary(text[:at])
        else:
            head = self._encode(before + text[:at])
        cut = 0
        while cut < len(head) and cut < len(whole) and head[cut] == whole[cut]:
            cut += 1
        exact = cut == len(head)
        # Where a line ends in the middle of a token, the token is its end and the line break.
        line = f"\n{aside}" if exact and text[:at][-1:] not in ("", "\n") else f"{aside}\n"
        cut += not exact
        return whole[:cut], self._ordinary(line), whole[cut:]

    def answer(self, text: str) -> list[int]:
        """Ids of an answer as the model would write it where it is asked, without its end."""
        before = self._encode(self.to_answer)
        joined = self._encode(self.to_answer + self.answer_prefix + text)
        if joined[: len(before)] == before and not self.control.search(text):
            return joined[len(before) :]
        return self._ordinary(self.answer_prefix + text)

    def plain(self, text: str) -> list[int]:
        """Ids of a text by itself, in which control tokens are ordinary letters."""
        return self._ordinary(text)

    def length(self, text: str) -> int:
        """Tokens of an answer."""
        return len(self.answer(text))

    def answer_ids(self, labels: list[str] | tuple[str, ...]) -> list[list[int]]:
        """Ids of each label as an answer; they can be told apart when scored as a whole.

        Raises ComityError for a label that has no ids of its own (none at all, or unknown
        letters), and for two of which one's ids begin with the other's: their
        probabilities would overlap.
        """
        all_ids = [self.answer(label) for label in labels]
        bare = self.answer("")
        unknown = self.tokenizer.unk_token_id
        for label, ids in zip(labels, all_ids, strict=True):
            if not label.strip() or not ids or ids == bare:
                raise ComityError(f"label {label!r} has no tokens; use letters or words")
            if unknown in ids:
                raise ComityError(
                    f"label {label!r} holds letters that the model's tokenizer does not know"
                )
        for i, ids in enumerate(all_ids):
            for j, others in enumerate(all_ids):
                if i < j and ids == others:
                    raise ComityError(
                        f"labels {labels[i]!r} and {labels[j]!r} are the same tokens for this "
                        "model; choose others"
                    )
                if i != j and len(ids) < len(others) and others[: len(ids)] == ids:
                    raise ComityError(
                        f"label {labels[j]!r} begins with the tokens of label {labels[i]!r} for "
                        "this model, so their probabilities overlap; choose others"
                    )
        return all_ids

    def said(self, ids: Sequence[int]) -> str:
        """The text of an answer with these ids, without what ended it."""
        if not ids or ids[-1] not in self.end_ids:
            return self.decode(ids)
        if ids[-1] in self.closing_ids:
            return self.decode(ids[:-1])
        # No token before it holds a line break: it would have been the end.
        return self.decode(ids).partition("\n")[0]

    def decode(self, ids: Sequence[int]) -> str:
        """The exact text of `ids`, control tokens included."""
        labels = {number: label for label, number in self.tokens.items()}
        if labels.keys().isdisjoint(ids):
            return self._decode(list(ids))
        parts: list[str] = []
        for known, numbers in groupby(ids, labels.__contains__):
            run = list(numbers)
            parts += [labels[number] for number in run] if known else [self._decode(run)]
        return "".join(parts)

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def _before(self, ended: bool | None) -> str:
        """What stands before a text: of a conversation (None), or after an answer."""
        if ended is None:
            return self.before
        return self.to_user if ended else self.answer_end + self.to_user

    def _told(self, before: str, text: str) -> list[int]:
        """Ids of `before`, `text` and `to_answer`; only the fixed parts hold control tokens.

        Encoded as one string, so that tokens form across the joints as the template's own
        rendering has them, unless `text` spells a control token.
        """
        if not self.control.search(text):
            return self._encode(before + text + self.to_answer)
        return self._encode(before) + self._ordinary(text) + self._encode(self.to_answer)

    def _ordinary(self, text: str) -> list[int]:
        """Ids of `text`, in which control tokens are ordinary letters."""
        return [token for part in broken(text, self.control) for token in self._encode(part)]

    def _encode(self, text: str) -> list[int]:
        # Many matches say the same few things; and a call of the tokenizer costs 0.1 ms.
        if text not in self._seen:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            ids: list[int] = []
            for part in self._cut(text):
                if part in self.tokens:
                    ids.append(self.tokens[part])
                elif part:
                    ids += self.tokenizer.encode(part, add_special_tokens=False)
            self._seen[text] = tuple(ids)
        return list(self._seen[text])

    def _cut(self, text: str) -> list[str]:
        """A text with each label that is a token as a part of its own."""
        if not self.tokens:
            return [text]
        return re.split("(" + "|".join(map(re.escape, self.tokens)) + ")", text)


def _closing(ends: set[int], lines: Mapping[int, str]) -> frozenset[int]:
    """The ends that say nothing else: control tokens, and line breaks with blanks before them."""
    return frozenset(ends.union(i for i, text in lines.items() if not text.strip()))
