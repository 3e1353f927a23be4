"""Structured outputs: the form of an answer as a JSON schema that is sent with the request.

The schema is advisory. Servers may ignore it or approximate it, so every answer is parsed as
strictly as without one. Where a server obeys, answers come from a masked distribution: another
policy than the same model's without a schema.
"""

import json
from collections.abc import Sequence
from typing import Any

from comity.prompts.answer_forms.forms import ChoiceForm, Form

FIELD = "answer"
"""The only property of the object."""


def response_format(form: Form | None, labels: Sequence[str]) -> dict[str, Any]:
    """The request parameter `response_format` for an answer: a label, or a text of the form."""
    answer: dict[str, Any] = {"type": "string"}
    if form is None:
        answer["enum"] = list(labels)
    elif isinstance(form, ChoiceForm):
        answer["enum"] = list(form.answers)
    else:
        answer["pattern"] = f"^{form.pattern}$"
    schema = {
        "type": "object",
        "properties": {FIELD: answer},
        "required": [FIELD],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": FIELD, "strict": True, "schema": schema},
    }


def unwrap(text: str) -> str | None:
    """The answer in a JSON object with the only property `answer`; None for other texts.

    A server that keeps to the schema writes nothing else.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and set(found) == {FIELD} and isinstance(found[FIELD], str):
        return str(found[FIELD])
    return None
