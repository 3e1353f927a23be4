"""Descriptions for `comity list experiments`: short forms of options, with model and run time."""

import re

from comity.config.groups import Sentences, options

MINUTES = {"moral/small/deontological-vs-tit-for-tat": 3}
"""Measured run times of presets on two cores; experiments in files have theirs in the file."""


def gist(sentence: str) -> str:
    """The part before the first colon, semicolon or parenthesis, as a sentence."""
    return re.split(r"[:;(]", sentence)[0].rstrip(" .") + "."


def describe(name: str, model: str, *parts: str) -> str:
    """The description of a preset: its distinguishing `parts`, its model, GPU and run time."""
    gpu = ", GPU" if "GPU" in options("model")[model] else ""
    time = f", {MINUTES[name]} min on two cores" if name in MINUTES else ""
    return " ".join(filter(None, [*parts, f"{model}{gpu}{time}."]))


def gists(group: str) -> Sentences:
    """The options of a config group with short descriptions."""
    return {name: gist(sentence) for name, sentence in options(group).items()}
