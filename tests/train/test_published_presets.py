"""Every published preset plays and learns on its published model's own tokenizer.

The model behind it is tiny and random; formats, labels, delimiters, grammars and the chat
template are those of the preset. Presets that are told, answered and learned alike run once.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from comity.commands.listing import catalog
from comity.config.compose import compose
from comity.config.presets import negotiation as negotiation_presets
from comity.config.schema import Config
from comity.train import train
from tests.misbehaving_api import Server
from tests.published import PUBLISHED, FolderOf, published_model
from tests.train.small import decisions

__all__ = ["published_model"]

GEMMA2, QWEN25 = "google/gemma-2-2b-it", "Qwen/Qwen2.5-7B-Instruct"


@cache
def model_of_option(option: str) -> str:
    return str(compose("smoke", [f"model={option}"]).model.name)


def presets(model: str) -> list[str]:
    """The published presets that name this model; all but those of the default model do one."""
    names = {name: GEMMA2 for name in catalog("experiments")["experiments"] if "moral/" in name}
    for study, cells in negotiation_presets.CELLS.items():
        for cell in cells:
            names[f"{study}/{cell.name}"] = (
                QWEN25 if cell.model is None else model_of_option(cell.model)
            )
    return [name for name, its in names.items() if its == model and "/small/" not in name]


def alike(config: Config) -> str:
    """What decides how a preset is told, answered and learned."""
    algorithm = {
        key: config.algorithm.get(key) for key in ("name", "baseline", "estimator", "form")
    }
    learners = [seat for seat in config.seats if str(seat).startswith(("learner", "base"))]
    return json.dumps(
        [
            config.game,
            config.prompt,
            config.answer,
            algorithm,
            learners,
            config.opponent_pool is None,
        ],
        default=str,
    )


def short(config: Config, folder: Path, output: Path, url: str) -> Config:
    """One iteration of a few short matches with the model in a folder, and APIs at a `url`."""
    length = dict(config.game["length"])
    length |= {"rounds": 1} if "rounds" in length else {"cap": 2}
    answer = dict(config.answer)
    if "message_tokens" in answer:
        answer["message_tokens"] = 3
    if "train_illegal" in answer:
        answer["train_illegal"] = True  # A random model seldom answers legally.
    group = min(config.group_size, 2)
    return replace(
        config,
        model=replace(
            config.model, name=str(folder), dtype="float32", device="cpu", quantization=None
        ),
        game={**config.game, "length": length},
        answer=answer,
        matches=config.matches if config.matches <= 5 else max(group, 2),
        group_size=group,
        iterations=1,
        output=str(output),
        api=None if config.api is None else replace(config.api, base_url=url),
        sinks={} if isinstance(config.sinks, dict) else config.sinks,
    )


def chosen(model: str) -> Iterator[tuple[str, Config]]:
    """One preset of each kind."""
    seen = set()
    for name in presets(model):
        if re.search(r"-vs-(random|always)", name):
            continue  # As against tit-for-tat: other frozen strategies.
        config = compose(name)
        if config.study is not None:
            continue  # Its arms are presets of their own.
        assert config.model.name == model
        if config.phases:
            continue  # As the same preset with one reward.
        if (key := alike(config)) not in seen:
            seen.add(key)
            yield name, config


def test_every_model_that_a_preset_names_has_its_tokenizer_here() -> None:
    folder = Path(__file__).parents[2] / "comity/configs/model"
    named = {
        re.search("^name: (.*)$", file.read_text(), re.MULTILINE)[1]  # type: ignore[index]
        for file in folder.glob("*.yaml")
    }
    assert named == {*PUBLISHED, "smollm2-135m"}


@pytest.mark.slow
@pytest.mark.parametrize("model", PUBLISHED)
def test_presets_play_and_learn(model: str, published_model: FolderOf, tmp_path: Path) -> None:
    folder = published_model(model)
    count = 0
    for name, config in chosen(model):
        try:
            with Server() as server:
                quick = short(config, folder, tmp_path / str(count), server.url)
                run = train(quick, report=False)
        except Exception as problem:
            raise AssertionError(f"{name}: {problem}") from problem
        found = decisions(run)
        assert any(d.trained and d.tokens for d in found), name
        row = json.loads((run / "metrics.jsonl").read_text())
        assert row["decisions"] > 0 and row["tokens_learned"] > 0, name
        assert math.isfinite(row["loss"]), name
        count += 1
    assert count > 0
