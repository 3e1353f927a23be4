"""The words of `comity list experiments`: short forms of options, and what a preset runs on."""

import re

from comity.config.groups import Sentences, options

MINUTES = {"moral/small/deontological-vs-tit-for-tat": 3}
"""Measured times of presets on two cores; those of experiments in files stand in the files."""


def gist(sentence: str) -> str:
    """What stands before the first colon, semicolon or parenthesis, as a sentence."""
    return re.split(r"[:;(]", sentence)[0].rstrip(" .") + "."


def describe(name: str, model: str, *parts: str) -> str:
    """The sentence of a preset: what sets it apart, its model and what it takes to run it."""
    gpu = ", GPU" if "GPU" in options("model")[model] else ""
    time = f", {MINUTES[name]} min on two cores" if name in MINUTES else ""
    return " ".join(filter(None, [*parts, f"{model}{gpu}{time}."]))


def gists(group: str) -> Sentences:
    """The options of a config group in their short form."""
    return {name: gist(sentence) for name, sentence in options(group).items()}
