"""Sanitizing of messages from other players."""

import unicodedata


def sanitize(text: str, limit: int | None = None) -> str:
    """A message of another player, made safe to show.

    Every control character (Unicode Cc), invisible format character (Cf), separator of lines
    or paragraphs (Zl, Zp) and lone surrogate (Cs) becomes a space. `<` and `>`, and characters
    that Unicode decomposes to them, become single angle quotation marks (U+2039, U+203A). What
    exceeds `limit` characters is cut.

    A message thus stays on one line and contains no tag, delimiter or header in `<...>`; other
    control tokens of a model are encoded as plain text (`comity.engines.chat`). Idempotent, and
    keeps the length.
    """
    return "".join(map(_sanitize_character, text if limit is None else text[:limit]))


def _sanitize_character(character: str) -> str:
    if character.isascii() and character.isprintable():
        return {"<": "\u2039", ">": "\u203a"}.get(character, character)
    if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs"):
        return " "
    plain = unicodedata.normalize("NFKD", character)
    return "\u2039" if "<" in plain else "\u203a" if ">" in plain else character
