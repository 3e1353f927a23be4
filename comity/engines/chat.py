"""Incremental tokenization of chats: each text is tokenized once, when it is appended.

A chat template renders a whole conversation to one string. A session instead appends a user's
text, the sampled answer, the next user's text, and so on. `ChatFormat` finds the template's
fixed parts by rendering a conversation of marker words and splitting it at them:

    conversation_start | user's text | generation_prompt | answer | answer_end + user_header |
    user's text | ...

Whatever the template puts into its generation prompt (Qwen3's empty think block) stands in
front of every answer. A tokenizer without a chat template gets plain text: the user's text, a
line with "Answer:", and the answer after a space, ended by a line break.

Labels written `⟦id⟧` stand for single tokens of the vocabulary, whatever their text
(`ChatFormat.with_token_labels`): tokens that hardly occur in texts carry no meaning.

User text may hold anything, including other models' messages. A control token spelled out in
it is encoded as ordinary letters and can never end a turn or begin one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from comity.engines.chat_template import fixed_parts, split_generation_prompt
from comity.engines.control_tokens import (
    control_pattern,
    control_tokens,
    line_breaks,
    number_of_ids,
    split_control_tokens,
)
from comity.engines.label_ids import check_label_ids
from comity.errors import ComityError

_TOKEN_LABEL = re.compile(r"⟦(\d+)⟧")
_MAX_CACHED_TEXTS = 4096
"""Most texts whose ids are cached."""


@dataclass(frozen=True)
class ChatFormat:
    """The fixed parts of a tokenizer's conversations, as text."""

    conversation_start: str
    """System prompt and user header, up to the user's first text."""
    generation_prompt: str
    """From the end of the user's text to the start of the answer."""
    answer_prefix: str
    """Text that the model must generate at the start of an answer (a space in plain text)."""
    answer_end: str
    """Text that ends an answer; appended unless the model samples it."""
    user_header: str
    """From the end of the answer's turn to the user's next text."""
    end_ids: frozenset[int]
    """Stop tokens: ids that end an answer when they are sampled."""
    closing_ids: frozenset[int]
    """Those of `end_ids` without text of the answer. In plain text, tokens such as `.` with a
    line break end an answer too, and the text before the line break belongs to it."""
    tokenizer: Any = field(repr=False, compare=False)
    control_pattern: re.Pattern[str] = field(repr=False, compare=False)
    """Matches every control token spelled out in text."""
    vocabulary_size: int | None = None
    """Size of the model's vocabulary, where the tokenizer's is larger (`for_vocabulary`)."""
    label_tokens: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Labels that stand for single tokens, with their ids."""
    _ids_by_text: dict[str, tuple[int, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """Ids of texts that were encoded before."""

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, system: str | None = None) -> "ChatFormat":
        """The format of the tokenizer's chat template, or the plain one where it has none.

        `system` is the system prompt; None: the template's own. Raises ComityError where the
        template refuses it or does not render conversations incrementally.
        """
        if tokenizer.chat_template is None:
            return cls._plain(tokenizer, system)
        before, between, after, generation_prompt = fixed_parts(tokenizer, system)
        known = {token.content for token in tokenizer.added_tokens_decoder.values()}
        generation_prompt, prefix = split_generation_prompt(generation_prompt, between, known)
        control = control_pattern(control_tokens(tokenizer))
        # The turn ends with the first control token if only white space precedes it.
        found = control.search(after)
        closed = found is not None and not after[: found.start()].strip()
        ends = {tokenizer.eos_token_id} - {None}
        lines: dict[int, str] = {}
        cut = 0
        if found is not None and closed:
            ends.add(tokenizer.convert_tokens_to_ids(found.group()))
            cut = found.end()
        elif after.lstrip(" ").startswith("\n"):
            # A template without control tokens: a line break ends a turn, as in plain text.
            lines = line_breaks(tokenizer)
            cut = after.index("\n") + 1
        return cls(
            conversation_start=before,
            generation_prompt=generation_prompt,
            answer_prefix=prefix,
            answer_end=after[:cut],
            user_header=after[cut:],
            end_ids=frozenset(ends.union(lines)),
            closing_ids=_closing_ids(ends, lines),
            tokenizer=tokenizer,
            control_pattern=control,
        )

    @classmethod
    def _plain(cls, tokenizer: Any, system: str | None) -> "ChatFormat":
        encoded = tokenizer.encode("a\n")
        begins = tokenizer.bos_token is not None and encoded[0] == tokenizer.bos_token_id
        ends, lines = {tokenizer.eos_token_id} - {None}, line_breaks(tokenizer)
        return cls(
            conversation_start=(tokenizer.bos_token if begins else "")
            + (f"{system}\n\n" if system else ""),
            generation_prompt="\nAnswer:",
            answer_prefix=" ",
            answer_end="\n",
            user_header="",
            end_ids=frozenset(ends.union(lines)),
            closing_ids=_closing_ids(ends, lines),
            tokenizer=tokenizer,
            control_pattern=control_pattern(control_tokens(tokenizer)),
        )

    def with_token_labels(self, labels: Sequence[str]) -> "ChatFormat":
        """This format with labels written `⟦id⟧` encoded as the tokens with these ids.

        Raises ComityError for ids that are not in the vocabulary or mark the turns.
        """
        found = {
            label: int(match[1]) for label in labels if (match := _TOKEN_LABEL.fullmatch(label))
        }
        fixed = (
            self.conversation_start + self.generation_prompt + self.answer_end + self.user_header
        )
        marks = {match.group() for match in self.control_pattern.finditer(fixed)}
        known = len(self.tokenizer) if self.vocabulary_size is None else self.vocabulary_size
        for label, number in found.items():
            if number >= known:
                raise ComityError(f"label {label!r}: the model's vocabulary has {known} tokens")
            text = self.tokenizer.decode([number])
            if number in self.end_ids or text in marks:
                raise ComityError(
                    f"label {label!r} is {text!r}, which marks turns in the model's conversations; "
                    "choose other ids"
                )
        return replace(self, label_tokens=found, _ids_by_text={}) if found else self

    def for_vocabulary(self, vocabulary_size: int, labels: Sequence[str] = ()) -> "ChatFormat":
        """This format for a model with a smaller vocabulary: missing tokens are spelled in letters.

        Some tokenizers have more tokens than the model (Gemma-3-1B's: one for images). Raises
        ComityError where a missing token is no added token, marks turns, or is a label.
        """
        size = number_of_ids(self.tokenizer)
        if size <= vocabulary_size:
            return self
        numbers = f"the tokenizer has {size} tokens, the model {vocabulary_size}"
        added = {i: one.content for i, one in self.tokenizer.added_tokens_decoder.items()}
        beyond = {i: text for i, text in added.items() if i >= vocabulary_size}
        fixed = set(
            self._encode(
                self.conversation_start
                + self.generation_prompt
                + self.answer_end
                + self.user_header
            )
        )
        if size - vocabulary_size > len(beyond) or not fixed.isdisjoint(beyond):
            raise ComityError(
                f"the model lacks tokens that its conversations need: {numbers}; use the tokenizer "
                "that the model was trained with, or resize the model's embedding"
            )
        unknown = [re.escape(text) for text in beyond.values() if text]
        for label in labels:
            if self.label_tokens.get(label, 0) >= vocabulary_size or re.search(
                "|".join(unknown) or "(?!)", label
            ):
                raise ComityError(
                    f"label {label!r} is a token that the model does not have: {numbers}; choose "
                    "another label, or resize the model's embedding"
                )
        return replace(
            self,
            control_pattern=control_pattern(control_tokens(self.tokenizer) | beyond),
            end_ids=self.end_ids - beyond.keys(),
            closing_ids=self.closing_ids - beyond.keys(),
            vocabulary_size=vocabulary_size,
            _ids_by_text={},
        )

    def encode_first_prompt(self, text: str) -> list[int]:
        """Ids of a conversation's start, the first user text and the generation prompt."""
        return self._encode_turn(None, text)

    def encode_next_prompt(self, text: str, ended: bool) -> list[int]:
        """Ids to append after an answer: its end, the next user text and the generation prompt.

        `ended`: the model sampled one of `end_ids`, so the end is not appended again.
        """
        return self._encode_turn(ended, text)

    def encode_with_insertion(
        self, text: str, at: int, insertion: str, ended: bool | None
    ) -> tuple[list[int], list[int], list[int]]:
        """Ids of a first (`ended` None) or next prompt in two parts, and of a line between them.

        Parts one and three together are exactly the ids of the prompt without the line; part two
        holds `insertion` as a line of its own, before the text's character `at`, which is at the
        beginning or end of a line. If one token spans `at`, the line comes after that token.
        """
        before = self._prefix(ended)
        whole = self._encode_turn(ended, text)
        if self.control_pattern.search(text):
            head = self._encode_after(ended, before) + self._encode_plain(text[:at])
        else:
            head = self._encode_after(ended, before + text[:at])
        cut = 0
        while cut < len(head) and cut < len(whole) and head[cut] == whole[cut]:
            cut += 1
        exact = cut == len(head)
        # If the line ends inside a token, that token holds its end and the line break.
        line = f"\n{insertion}" if exact and text[:at][-1:] not in ("", "\n") else f"{insertion}\n"
        cut += not exact
        return whole[:cut], self._encode_plain(line), whole[cut:]

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an answer as the model generates it after a prompt, without its end."""
        before = self._encode(self.generation_prompt)
        joined = self._encode(self.generation_prompt + self.answer_prefix + text)
        if joined[: len(before)] == before and not self.control_pattern.search(text):
            return joined[len(before) :]
        return self._encode_plain(self.answer_prefix + text)

    def encode_text(self, text: str) -> list[int]:
        """Ids of a text by itself; control tokens in it are ordinary letters."""
        return self._encode_plain(text)

    def answer_length(self, text: str) -> int:
        """Number of tokens of an answer."""
        return len(self.encode_answer(text))

    def encode_labels(self, labels: list[str] | tuple[str, ...]) -> list[list[int]]:
        """Ids of each label as an answer; none is a prefix of another.

        Raises ComityError for a label without ids of its own (none at all, or unknown letters),
        and where one label's ids begin with another's: their probabilities would overlap.
        """
        all_ids = [self.encode_answer(label) for label in labels]
        check_label_ids(labels, all_ids, self.encode_answer(""), self.tokenizer.unk_token_id)
        return all_ids

    def answer_text(self, ids: Sequence[int]) -> str:
        """The text of an answer with these ids, without its end."""
        if not ids or ids[-1] not in self.end_ids:
            return self.decode(ids)
        if ids[-1] in self.closing_ids:
            return self.decode(ids[:-1])
        # No earlier token holds a line break: it would have ended the answer.
        return self.decode(ids).partition("\n")[0]

    def decode(self, ids: Sequence[int]) -> str:
        """The exact text of `ids`, control tokens included."""
        labels = {number: label for label, number in self.label_tokens.items()}
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

    def _prefix(self, ended: bool | None) -> str:
        """Text before a user's text: at a conversation's start (None) or after an answer."""
        if ended is None:
            return self.conversation_start
        return self.user_header if ended else self.answer_end + self.user_header

    def _encode_turn(self, ended: bool | None, text: str) -> list[int]:
        """Ids of a user's text with what stands before it, and of the generation prompt.

        Encoded as one string, so that tokens span the joints as in the template's own rendering,
        unless `text` spells a control token.
        """
        before = self._prefix(ended)
        if not self.control_pattern.search(text):
            return self._encode_after(ended, before + text + self.generation_prompt)
        return (
            self._encode_after(ended, before)
            + self._encode_plain(text)
            + self._encode(self.generation_prompt)
        )

    def _encode_after(self, ended: bool | None, text: str) -> list[int]:
        """Ids of a text that follows an answer: some tokenizers begin every string with a space."""
        if ended is None:
            return self._encode(text)
        above = self.answer_end if ended else f"{self.generation_prompt}{self.answer_prefix}A"
        known, joined = self._encode(above), self._encode(above + text)
        # Where a token spans the joint, as a letter and a word would, it is encoded by itself.
        return joined[len(known) :] if joined[: len(known)] == known else self._encode(text)

    def _encode_plain(self, text: str) -> list[int]:
        """Ids of `text` with control tokens encoded as ordinary letters."""
        return [
            token
            for part in split_control_tokens(text, self.control_pattern)
            for token in self._encode(part)
        ]

    def _encode(self, text: str) -> list[int]:
        # Many matches share the same few texts, and a call of the tokenizer costs 0.1 ms.
        if text not in self._ids_by_text:
            if len(self._ids_by_text) >= _MAX_CACHED_TEXTS:
                self._ids_by_text.clear()
            ids: list[int] = []
            for part in self._split_labels(text):
                if part in self.label_tokens:
                    ids.append(self.label_tokens[part])
                elif part:
                    ids += self.tokenizer.encode(part, add_special_tokens=False)
            self._ids_by_text[text] = tuple(ids)
        return list(self._ids_by_text[text])

    def _split_labels(self, text: str) -> list[str]:
        """The text split so that each label in `label_tokens` is a part of its own."""
        if not self.label_tokens:
            return [text]
        return re.split("(" + "|".join(map(re.escape, self.label_tokens)) + ")", text)


def _closing_ids(ends: set[int], lines: Mapping[int, str]) -> frozenset[int]:
    """The end tokens without text: control tokens, and line breaks after at most blanks."""
    return frozenset(ends.union(i for i, text in lines.items() if not text.strip()))
