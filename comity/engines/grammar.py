"""Regular expressions over tokens: what may come next in an answer, and what must.

A `Grammar` is a regular expression that a whole answer matches; a `Matcher` goes along one
answer. Where there is only one way on, its tokens are *forced*: they are told to the model,
not chosen by it, and stand in no probability. Where there are several, a `Mask` says which
tokens may be chosen; the distribution over those alone is sampled and learned from.

The automaton and its walk over the vocabulary are llguidance's. Of what it offers we use
regular expressions alone, and mend four things: control tokens never stand inside an answer,
not even where a pattern spells one; an answer ends with the chat format's end tokens; masks
are one object where they are equal; and characters that the tokenizer cannot write are taken
out of the pattern, so that nobody runs into a dead end.
"""

import json
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any
from weakref import WeakValueDictionary

import llguidance
import numpy as np

from comity.engines.chat import ChatFormat
from comity.engines.control_tokens import control_tokens, encoder
from comity.engines.token_masks import Mask
from comity.errors import ComityError

__all__ = ["Grammar", "Grammars", "Mask", "Matcher", "shared_grammars"]

_SLICES = [r"[^<]{1,10}", r"[^<]{1,30}", r"[^<]+"]
"""Texts whose tokens are found in advance: a mask inside a message takes 0.05 instead of 0.8 ms."""
_WORDS = 4096
"""Most tokens that are taken as a whole where their characters are no tokens."""
_USUAL = frozenset([0x09, 0x0A, 0x0D, *range(0x20, 0x7F), *range(0x80, 0xC0), *range(0xC2, 0xF1)])
"""Bytes of text: without those of the other control characters and the rarest planes."""


class Grammars:
    """The patterns of one chat format, each compiled once."""

    def __init__(self, chat: ChatFormat, vocabulary: int | None = None) -> None:
        """`vocabulary`: size of the model's output layer; None: the tokenizer's.

        Raises ComityError where the tokenizer's ids do not stand for fixed runs of bytes.
        """
        tokenizer = chat.tokenizer
        self.end_ids = chat.closing_ids
        """They end an answer, where the pattern allows that."""
        size = max(tokenizer.get_vocab().values()) + 1
        control = control_tokens(tokenizer)
        known = _Vocabulary(tokenizer, size, control)
        self._texts = known.tokens
        self._tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(known), slices=_SLICES)
        usable = np.ones(size, dtype=bool)
        usable[[t for t in chat.end_ids.union(control) if t < size]] = False
        usable[vocabulary or size :] = False
        ends = np.zeros(max([size, *(end + 1 for end in self.end_ids)]), dtype=bool)
        ends[sorted(self.end_ids)] = True
        self._usable = usable
        self._keep = np.packbits(usable, bitorder="little")
        self._ends = np.packbits(ends, bitorder="little")
        texts = [self._texts[t] for t in np.flatnonzero(usable)]
        self._alphabet, self._usual = _alphabet(texts)
        self._masks: WeakValueDictionary[bytes, Mask] = WeakValueDictionary()
        self._compiled: dict[str, Grammar] = {}

    def compile(self, pattern: str) -> "Grammar":
        """The grammar of a pattern (no look-around, back-references or flags).

        Raises ComityError where it is no regular expression, or where no tokens write it.
        """
        if pattern not in self._compiled:
            self._compiled[pattern] = self._new(pattern)
        return self._compiled[pattern]

    def _new(self, pattern: str) -> "Grammar":
        try:
            re.compile(pattern)
        except re.error as problem:
            raise ComityError(f"{_short(pattern)} is no regular expression: {problem}") from None
        regex = llguidance.LLMatcher.grammar_from_regex(pattern)
        rule = json.loads(regex)["grammars"][0]["lark_grammar"].removeprefix("start: ")
        writable = f"start: TEXT\nTEXT: {rule} & /{self._alphabet}/\n"
        # Taking characters out costs the shortcuts of `_SLICES`, so only where it may matter.
        found = Grammar(self, pattern, self._matcher(pattern, regex if self._usual else writable))
        check = Grammar(self, pattern, self._matcher(pattern, writable)).start()
        try:
            check.forced()
            if not check.finished:
                check.mask()
        except ComityError:
            raise ComityError(
                f"the model's tokenizer cannot write {_short(pattern)}; use other characters"
            ) from None
        return found

    def _matcher(self, pattern: str, grammar: str) -> Any:
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ComityError(f"{_short(pattern)} cannot be used as a grammar: {_reason(matcher)}")
        return matcher

    def usable(self, token: int) -> bool:
        """The token may stand inside an answer: it is no control token and no end."""
        return 0 <= token < len(self._usable) and bool(self._usable[token])

    def text(self, token: int) -> bytes:
        """What a token writes."""
        return self._texts[token]

    def mask(self, bits: bytes, accepting: bool) -> tuple[Mask, bool]:
        """The mask of llguidance's bits, with the end ids where the answer may end; and
        whether it allows anything else.
        """
        packed = np.zeros(len(self._ends), dtype=np.uint8)
        found = np.frombuffer(bits, dtype=np.uint8)[: len(self._keep)]
        packed[: len(found)] = found & self._keep[: len(found)]
        other = bool(packed.any())
        if accepting:
            packed |= self._ends
        key = packed.tobytes()
        mask = self._masks.get(key)
        if mask is None:
            mask = Mask(key, int(np.unpackbits(packed).sum()))
            self._masks[key] = mask
        return mask, other


def shared_grammars(chat: ChatFormat, vocabulary: int | None = None) -> Grammars:
    """Those of a chat format, made once for all runs of a process: it takes seconds."""
    return _shared(chat.tokenizer, chat, vocabulary)


@lru_cache(maxsize=1)
def _shared(tokenizer: Any, chat: ChatFormat, vocabulary: int | None) -> Grammars:
    # Formats are equal whose texts are, whatever their tokenizers.
    return Grammars(chat, vocabulary)


class Grammar:
    """One pattern."""

    def __init__(self, grammars: Grammars, pattern: str, matcher: Any) -> None:
        self.pattern = pattern
        self._grammars = grammars
        self._matcher = matcher

    def start(self) -> "Matcher":
        """A matcher at the beginning of an answer."""
        return Matcher(self._grammars, self.pattern, self._matcher.deep_copy())


class Matcher:
    """Goes along one answer, token by token."""

    def __init__(self, grammars: Grammars, pattern: str, matcher: Any) -> None:
        self.pattern = pattern
        self.end_ids = grammars.end_ids
        self._grammars = grammars
        self._matcher = matcher
        self._ended = False
        self._tail = b""
        """The last bytes of the answer."""
        self._seen: tuple[Mask, bool] | None = None
        """The mask at this place, once it was asked for, and whether it allows more than an end."""

    def forced(self) -> list[int]:
        """Goes along the only way on, as long as there is only one; its tokens.

        They are those that the tokenizer makes of the text, as far as what follows cannot
        change them. A text that may end has several ways on.
        """
        tokens: list[int] = []
        while not self._stopped:
            found = list(takewhile(self._grammars.usable, self._matcher.compute_ff_tokens()))
            if not found:
                if self.accepting or self.mask().count != 1:
                    break
                found = [int(self.mask().tokens[0])]
            for token in found:
                self.accept(token)
            tokens += found
        return tokens

    def mask(self) -> Mask:
        """What may be chosen here: the same object wherever it is the same set.

        Raises ComityError where nothing can follow and nothing may end.
        """
        return self._look()[0]

    def accept(self, token: int) -> None:
        """Go on with a token that the mask allows (ValueError: it does not)."""
        if token in self.end_ids and self.accepting and not self._ended:
            self._ended = True
        elif (
            self._ended
            or not self._grammars.usable(token)
            or not self._matcher.consume_token(token)
        ):
            raise ValueError(f"token {token} cannot follow in {_short(self.pattern)}")
        else:
            self._tail = (self._tail + self._grammars.text(token))[-4:]
        self._seen = None

    def allows(self, tokens: Sequence[int]) -> bool:
        """The tokens may follow here one after the other (no end ids)."""
        return not tokens or (
            not self._stopped
            and all(self._grammars.usable(token) for token in tokens)
            and self._matcher.validate_tokens(list(tokens)) == len(tokens)
        )

    @property
    def inside_character(self) -> bool:
        """The last character is not whole yet: some of its bytes are still to come."""
        for count, byte in enumerate(reversed(self._tail), 1):
            if byte < 0x80 or byte >= 0xC0:
                return count < (1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
        return False

    @property
    def accepting(self) -> bool:
        """The answer may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        """Nothing may follow."""
        return self._stopped or not self._look()[1]

    @property
    def _stopped(self) -> bool:
        """It is known without a mask that nothing may follow."""
        if self._matcher.is_error():
            raise ComityError(
                f"{_short(self.pattern)} is too much for the grammar: {_reason(self._matcher)}"
            )
        return self._ended or bool(self._matcher.is_stopped())

    def _look(self) -> tuple[Mask, bool]:
        if self._seen is None:
            bits = b"" if self._stopped else self._matcher.compute_bitmask()
            mask, other = self._grammars.mask(bits, self.accepting)
            if not other and not self.accepting:
                raise ComityError(
                    f"the model's tokenizer cannot go on writing {_short(self.pattern)}"
                )
            self._seen = mask, other
        return self._seen


def _short(pattern: str) -> str:
    """A pattern for a sentence, on one line."""
    return repr(pattern if len(pattern) <= 80 else f"{pattern[:77]}...")


def _reason(matcher: Any) -> str:
    """The part of llguidance's complaint that says why, on one line."""
    lines = [line.strip() for line in matcher.get_error().splitlines()]
    named = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (named or lines or ["unknown"])[0]


class _Vocabulary:
    """A tokenizer as llguidance reads one: what each token writes, and the tokens of a text.

    llguidance's own reader knows what tokens write. But it takes added tokens that look like
    tags for special ones, so that no grammar could write them; and in its eyes a text that
    spells a control token is that token.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Any, size: int, control: Collection[int]) -> None:
        """`size`: the ids are below it. Raises ComityError as `Grammars` does."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ComityError("grammars need a fast tokenizer (a tokenizer.json)")
        try:
            # It wants an id that ends everything, which it never meets here.
            self._reader = llguidance.LLTokenizer(
                backend.to_str(), n_vocab=size, eos_token=0, slices=[]
            )
        except ValueError as problem:
            raise ComityError(
                "this model's tokenizer cannot be used with grammars: its tokens are not fixed "
                f"runs of bytes ({str(problem).splitlines()[0]})"
            ) from None
        self._encode = encoder(tokenizer)
        # One more token ends everything: the ends of answers are not llguidance's to allow.
        self.tokens = [*(bytes(self._reader.decode_bytes([i])) for i in range(size)), b"\0end\0"]
        self.eos_token_id = size
        self.special_token_ids = [*(i for i in control if i < size), size]

    def __call__(self, text: str) -> list[int]:
        """The tokens of a text, as it is told; exactly these letters."""
        if isinstance(text, bytes):
            raise TypeError("text, not bytes")  # how llguidance finds out what to give
        tokens = self._encode(text)
        if b"".join(self.tokens[token] for token in tokens) != text.encode():
            # Tokenizers that normalize, or put a space before every text.
            tokens = [int(token) for token in self._reader.greedy_tokenize(text)]
        return tokens


def _alphabet(texts: Sequence[bytes]) -> tuple[str, bool]:
    """A regular expression of what tokens with these texts can write, and whether that is
    every usual text.

    Exact where a text can be cut into tokens in one way only, or each of its characters can
    be written alone.
    """
    alone = {text[0] for text in texts if len(text) == 1}
    spans = [(byte, byte) for byte in sorted(alone) if byte < 0x80]
    if alone.issuperset(range(0x80, 0xC0)):
        for lead in sorted(alone.intersection(range(0xC2, 0xF5))):
            bits = 6 if lead < 0xE0 else 12 if lead < 0xF0 else 18
            first = (lead - {6: 0xC0, 12: 0xE0, 18: 0xF0}[bits]) << bits
            last = min(first + (1 << bits) - 1, 0x10FFFF)
            first = max(first, {6: 0x80, 12: 0x800, 18: 0x10000}[bits])
            spans += [(first, 0xD7FF)] if lead == 0xED else [(first, last)]
    single = "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in spans)
    outside = re.compile(
        "[^" + "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in spans) + "]"
        if spans
        else "(?s:.)"
    )
    words = set()
    for text in texts:
        try:
            word = text.decode()
        except UnicodeDecodeError:
            continue
        if outside.search(word):
            words.add("".join(rf"\x{{{ord(letter):X}}}" for letter in word))
    parts = [f"[{single}]"] if single else []
    parts += sorted(words, key=lambda word: (len(word), word))[:_WORDS]
    return f"({'|'.join(parts)})*", alone >= _USUAL
