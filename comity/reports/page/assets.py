"""What every page is made of: its templates, style sheets, scripts and embedded data.

Every text that a model wrote is hostile until shown otherwise. Templates escape by default;
data travels as JSON in which `<`, `>` and `&` are escaped, so that it cannot end the element
that holds it, and is put on the page as text only; and the page's own policy lets no script
run but the one whose hash it states, and lets nothing be fetched.
"""

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from comity.reports import formats
from comity.reports.page.colors import style


def page_environment() -> Environment:
    """The templates, with the formats of numbers as filters; escapes, and refuses unknown names."""
    environment = Environment(
        loader=PackageLoader("comity.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formats.FILTERS
    return environment


def page_style(*names: str) -> str:
    """The style sheets of a page, and the colors of its cells."""
    return "\n".join([*map(_template, names), style()])


def script(*names: str) -> tuple[Markup, str]:
    """The scripts of a page as one, and the hash by which the page's policy knows it."""
    code = "\n".join(map(_template, names))
    return Markup(code), base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def _template(name: str) -> str:
    path = resources.files("comity.reports") / "templates" / name
    return path.read_text(encoding="utf-8").strip()


def dump(value: Any, indent: int | None = None) -> str:
    """JSON; refuses NaN and infinities, which JSON does not have."""
    separators = (",", ":") if indent is None else None
    return json.dumps(value, allow_nan=False, indent=indent, separators=separators)


def embedded(value: Any) -> str:
    """JSON that is safe inside a script element: no `<`, `>`, `&`, and only ASCII."""
    text = dump(value)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
