"""Building blocks of the regular expressions of answer forms.

Restricted to the common subset of regular expression engines: literals, classes, groups, `|` and
bounded repetition. No look-around, back-references or flags; letter case is spelled out.
"""

SPACE = r"[ \t\r\n]{0,4}"
"""Optional white space."""
BODY = "[^<]"
"""One character of a message or a thinking block; excludes the start of delimiters."""
_MEANT = set("\\.+*?()|[]{}^$")


def literal(text: str) -> str:
    """A pattern of exactly this text."""
    return "".join(f"\\{c}" if c in _MEANT else c for c in text)


def numbers_to(most: int) -> str:
    """A pattern of the decimal numbers 0 to `most`, without sign or leading zeros.

    Shorter numbers are matched by length. Those of equal length are `most` itself, or share its
    first i digits and have a smaller next digit.
    """
    if most < 0:
        raise ValueError(f"there is no number from 0 to {most}")
    digits = str(most)
    ways = []
    if len(digits) > 1:
        ways.append("[0-9]")
        ways += [f"[1-9]{_any(length - 1)}" for length in range(2, len(digits))]
    for i, digit in enumerate(digits):
        low = 1 if i == 0 and len(digits) > 1 else 0
        if int(digit) > low:
            ways.append(f"{digits[:i]}[{low}-{int(digit) - 1}]{_any(len(digits) - i - 1)}")
    return f"({'|'.join([*ways, digits])})"


def _any(count: int) -> str:
    """That many digits."""
    return f"[0-9]{{{count}}}" if count else ""


def item_words(item: str) -> str:
    """A pattern of an item's name in plural or singular and any letter case."""
    words = dict.fromkeys([item, *_singulars(item)])
    return f"({'|'.join(''.join(map(_any_case, word)) for word in words)})"


def _any_case(letter: str) -> str:
    forms = sorted({form for form in (letter, letter.lower(), letter.upper()) if len(form) == 1})
    return f"[{''.join(forms)}]" if len(forms) > 1 else literal(letter)


def singular(item: str) -> str:
    """The singular by ending: "books" -> "book", "boxes" -> "box", "berries" -> "berry"."""
    return (*_singulars(item), item)[0]


def _singulars(item: str) -> list[str]:
    """Possible singulars, most likely first; [] without a plural ending."""
    if not item.lower().endswith("s") or item.lower().endswith("ss") or len(item) < 2:
        return []
    ways = []
    if item.endswith("ies") and len(item) > 4:
        ways.append(f"{item[:-3]}y")
    elif item.endswith(("ches", "shes", "sses", "xes", "zes")):
        ways.append(item[:-2])
    return [*ways, item[:-1]]
