"""Constrained decoding by regular expressions: which tokens may follow in an answer.

A `Grammar` is a regular expression that a whole answer matches; a `Matcher` follows one answer
token by token. Tokens without an alternative are *forced*: they are appended to the context
(fast-forwarded), not sampled, and masked from the loss. Elsewhere a `TokenMask` gives the allowed
tokens; answers are sampled from the distribution over those, and trained on it.

llguidance provides the automaton and its traversal of the vocabulary; only its regular
expressions are used, with four changes. Control tokens never occur inside an answer, not even
where a pattern spells one. Answers end with the chat format's end tokens. Equal masks are one
object. Characters that the tokenizer cannot produce are removed from the pattern, so that no
answer reaches a dead end.
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
from comity.engines.control_tokens import control_tokens, number_of_ids, plain_text_encoder
from comity.engines.token_masks import TokenMask
from comity.errors import ComityError

__all__ = ["Grammar", "GrammarCompiler", "TokenMask", "Matcher", "shared_grammar_compiler"]

_SLICES = [r"[^<]{1,10}", r"[^<]{1,30}", r"[^<]+"]
"""Patterns precomputed by llguidance: a mask inside a message takes 0.05 instead of 0.8 ms."""
_MAX_WORDS = 4096
"""Most multi-character tokens in the alphabet whose characters are no tokens themselves."""
_USUAL = frozenset([0x09, 0x0A, 0x0D, *range(0x20, 0x7F), *range(0x80, 0xC0), *range(0xC2, 0xF1)])
"""Bytes of common text: without the other control characters and the rarest planes."""


class GrammarCompiler:
    """Compiles patterns for one chat format, each of them once."""

    def __init__(self, chat: ChatFormat, vocabulary: int | None = None) -> None:
        """`vocabulary`: size of the model's output layer; None: the tokenizer's.

        Raises ComityError for a tokenizer whose ids do not stand for fixed byte strings.
        """
        tokenizer = chat.tokenizer
        self.end_ids = chat.closing_ids
        """Ids that end an answer, where the pattern allows it."""
        size = number_of_ids(tokenizer)
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
        self._masks: WeakValueDictionary[bytes, TokenMask] = WeakValueDictionary()
        self._compiled: dict[str, Grammar] = {}

    def compile(self, pattern: str) -> "Grammar":
        """The grammar of a pattern (no look-around, back-references or flags).

        Raises ComityError for an invalid regular expression, and where no tokens match it.
        """
        if pattern not in self._compiled:
            self._compiled[pattern] = self._new(pattern)
        return self._compiled[pattern]

    def _new(self, pattern: str) -> "Grammar":
        try:
            re.compile(pattern)
        except re.error as problem:
            raise ComityError(f"{_quoted(pattern)} is no regular expression: {problem}") from None
        regex = llguidance.LLMatcher.grammar_from_regex(pattern)
        rule = json.loads(regex)["grammars"][0]["lark_grammar"].removeprefix("start: ")
        writable = f"start: TEXT\nTEXT: {rule} & /{self._alphabet}/\n"
        # Removing characters disables the shortcuts of `_SLICES`, so only where it is needed.
        found = Grammar(self, pattern, self._matcher(pattern, regex if self._usual else writable))
        check = Grammar(self, pattern, self._matcher(pattern, writable)).start()
        try:
            check.fast_forward()
            if not check.finished:
                check.mask()
        except ComityError:
            raise ComityError(
                f"the model's tokenizer cannot write {_quoted(pattern)}; use other characters"
            ) from None
        return found

    def _matcher(self, pattern: str, grammar: str) -> Any:
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ComityError(f"{_quoted(pattern)} cannot be used as a grammar: {_reason(matcher)}")
        return matcher

    def usable(self, token: int) -> bool:
        """Whether the token may occur inside an answer: no control token and no end token."""
        return 0 <= token < len(self._usable) and bool(self._usable[token])

    def text(self, token: int) -> bytes:
        """The bytes of a token."""
        return self._texts[token]

    def mask(self, bits: bytes, accepting: bool) -> tuple[TokenMask, bool]:
        """llguidance's bits as a mask, with the end ids if the answer may end (`accepting`); and
        whether it allows any other token.
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
            mask = TokenMask(key, int(np.unpackbits(packed).sum()))
            self._masks[key] = mask
        return mask, other


def shared_grammar_compiler(chat: ChatFormat, vocabulary: int | None = None) -> GrammarCompiler:
    """The compiler of a chat format, shared by all runs of a process: making one takes seconds."""
    return _shared(chat.tokenizer, chat, vocabulary)


@lru_cache(maxsize=1)
def _shared(tokenizer: Any, chat: ChatFormat, vocabulary: int | None) -> GrammarCompiler:
    # Chat formats compare equal by their texts, whatever their tokenizers.
    return GrammarCompiler(chat, vocabulary)


class Grammar:
    """A compiled pattern."""

    def __init__(self, compiler: GrammarCompiler, pattern: str, matcher: Any) -> None:
        self.pattern = pattern
        self._compiler = compiler
        self._matcher = matcher

    def start(self) -> "Matcher":
        """A matcher at the beginning of an answer."""
        return Matcher(self._compiler, self.pattern, self._matcher.deep_copy())


class Matcher:
    """Follows one answer, token by token."""

    def __init__(self, compiler: GrammarCompiler, pattern: str, matcher: Any) -> None:
        self.pattern = pattern
        self.end_ids = compiler.end_ids
        self._compiler = compiler
        self._matcher = matcher
        self._ended = False
        self._tail = b""
        """The last bytes of the answer."""
        self._mask_cache: tuple[TokenMask, bool] | None = None
        """The mask at this position, once computed, and whether it allows more than an end."""

    def fast_forward(self) -> list[int]:
        """Accept and return the forced tokens, up to the next position with an alternative.

        They are the tokenizer's tokens of the forced text, as far as the text after it cannot
        change them. Nothing is forced where the answer may end.
        """
        tokens: list[int] = []
        while not self._stopped:
            found = list(takewhile(self._compiler.usable, self._matcher.compute_ff_tokens()))
            if not found:
                if self.accepting or self.mask().count != 1:
                    break
                found = [int(self.mask().tokens[0])]
            for token in found:
                self.accept(token)
            tokens += found
        return tokens

    def mask(self) -> TokenMask:
        """The tokens allowed here; equal sets are the same object.

        Raises ComityError where no token can follow and the answer may not end.
        """
        return self._current_mask()[0]

    def accept(self, token: int) -> None:
        """Advance by a token; ValueError unless the mask allows it."""
        if token in self.end_ids and self.accepting and not self._ended:
            self._ended = True
        elif (
            self._ended
            or not self._compiler.usable(token)
            or not self._matcher.consume_token(token)
        ):
            raise ValueError(f"token {token} cannot follow in {_quoted(self.pattern)}")
        else:
            self._tail = (self._tail + self._compiler.text(token))[-4:]
        self._mask_cache = None

    def allows(self, tokens: Sequence[int]) -> bool:
        """Whether these tokens may follow here in this order (no end ids)."""
        return not tokens or (
            not self._stopped
            and all(self._compiler.usable(token) for token in tokens)
            and self._matcher.validate_tokens(list(tokens)) == len(tokens)
        )

    @property
    def inside_character(self) -> bool:
        """Whether the last character is incomplete: some of its bytes are missing."""
        for count, byte in enumerate(reversed(self._tail), 1):
            if byte < 0x80 or byte >= 0xC0:
                return count < (1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
        return False

    @property
    def accepting(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        """Whether no token may follow."""
        return self._stopped or not self._current_mask()[1]

    @property
    def _stopped(self) -> bool:
        """Whether it is known without a mask that no token may follow."""
        if self._matcher.is_error():
            raise ComityError(
                f"{_quoted(self.pattern)} is too much for the grammar: {_reason(self._matcher)}"
            )
        return self._ended or bool(self._matcher.is_stopped())

    def _current_mask(self) -> tuple[TokenMask, bool]:
        if self._mask_cache is None:
            bits = b"" if self._stopped else self._matcher.compute_bitmask()
            mask, other = self._compiler.mask(bits, self.accepting)
            if not other and not self.accepting:
                raise ComityError(
                    f"the model's tokenizer cannot go on writing {_quoted(self.pattern)}"
                )
            self._mask_cache = mask, other
        return self._mask_cache


def _quoted(pattern: str) -> str:
    """The pattern, quoted and shortened for a message."""
    return repr(pattern if len(pattern) <= 80 else f"{pattern[:77]}...")


def _reason(matcher: Any) -> str:
    """The reason in llguidance's error message, on one line."""
    lines = [line.strip() for line in matcher.get_error().splitlines()]
    named = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (named or lines or ["unknown"])[0]


class _Vocabulary:
    """A tokenizer in llguidance's interface: the bytes of each token, and the tokens of a text.

    llguidance's own wrapper knows the bytes. But it treats added tokens that look like tags as
    special, so that no grammar could produce them, and encodes a text that spells a control
    token as that token.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Any, size: int, control: Collection[int]) -> None:
        """`size`: one more than the largest id. Raises ComityError as `GrammarCompiler` does."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ComityError("grammars need a fast tokenizer (a tokenizer.json)")
        try:
            # llguidance requires an end-of-sequence id; it never occurs here.
            self._reader = llguidance.LLTokenizer(
                backend.to_str(), n_vocab=size, eos_token=0, slices=[]
            )
        except ValueError as problem:
            raise ComityError(
                "this model's tokenizer cannot be used with grammars: its tokens are not fixed "
                f"runs of bytes ({str(problem).splitlines()[0]})"
            ) from None
        self._encode = plain_text_encoder(tokenizer)
        # An extra token as end of sequence: this class, not llguidance, allows answers' ends.
        self.tokens = [*(bytes(self._reader.decode_bytes([i])) for i in range(size)), b"\0end\0"]
        self.eos_token_id = size
        self.special_token_ids = [*(i for i in control if i < size), size]

    def __call__(self, text: str) -> list[int]:
        """The tokens of a text as in a prompt; they decode to exactly this text."""
        if isinstance(text, bytes):
            raise TypeError("text, not bytes")  # llguidance probes which type is expected
        tokens = self._encode(text)
        if b"".join(self.tokens[token] for token in tokens) != text.encode():
            # Tokenizers that normalize, or prepend a space to every text.
            tokens = [int(token) for token in self._reader.greedy_tokenize(text)]
        return tokens


def _alphabet(texts: Sequence[bytes]) -> tuple[str, bool]:
    """A regular expression of the strings that tokens with these texts can form, and whether
    they include all common text.

    Exact where a string splits into tokens in only one way, or each character is a token.
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
    parts += sorted(words, key=lambda word: (len(word), word))[:_MAX_WORDS]
    return f"({'|'.join(parts)})*", alone >= _USUAL
