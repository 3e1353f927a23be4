"""Populations with agent kinds of one's own and with language models."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from comity.commands.population import resume_population, run_population
from comity.config.population import compose_population
from comity.errors import ComityError
from tests.cli.populations import (
    FEW,
    ROOT,
    SMALL,
    assert_same,
    metrics,
    trained,
)

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def kinds(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the how-to on kinds of one's own."""
    page = (ROOT / "docs/how-to/own-agent-kind.md").read_text()
    (text,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    (here / "kinds.py").write_text(text)
    monkeypatch.setenv("COMITY_PARTS", str(here / "kinds.py"))


def test_a_kind_of_ones_own_beside_others(kinds: None) -> None:
    folder = trained("2xbush:S_1xUT_1xTFT", *SMALL, *FEW, "iterations=40")
    about = json.loads((folder / "agents.json").read_text())
    assert [agent["kind"] for agent in about["agents"]] == ["bush", "bush", "dqn", "fixed"]
    shorter = trained("2xbush:S_1xUT_1xTFT", *SMALL, *FEW, "iterations=20", "output=shorter")
    resume_population(shorter, 40)
    assert_same(folder, shorter)


def test_a_kind_of_ones_own_for_all_learners(kinds: None) -> None:
    """What it learns depends on the type alone: kindness is rewarded for C, aggression for D."""
    words = ("2xVEk_2xVagg", "learner=bush", "iterations=200", "runs=4", "record.metrics_every=50")
    types = metrics(trained(*words, *FEW))[-1]["types"]
    assert types["VEk"]["cooperation"] > 0.8 and types["Vagg"]["cooperation"] < 0.2


def test_without_the_file_the_kind_is_unknown() -> None:
    with pytest.raises(ComityError, match="kind of learner"):
        trained("2xS", "learner=bush", *SMALL)
    with pytest.raises(ComityError, match="unknown type"):
        trained("2xbush:S", *SMALL)


def test_language_models_go_on_to_the_same_numbers(
    tiny_model: Callable[[str], Path], here: Path
) -> None:
    words = (
        *("1xLLM:S_1xLLM:UT_1xUT", "model=smollm2-135m", f"model.name={tiny_model('llama')}"),
        *("prompt.framing=action_game_state", "language_model.episodes_per_update=2"),
        *("language_model.min_decisions=2", "iterations=4", "runs=1", "checkpoint.every=2"),
        *("adapter.rank=4", "deep_q.hidden=4", "controls.random_matching=false"),
    )
    folder = trained(*words)
    about = json.loads((folder / "agents.json").read_text())
    assert [agent["kind"] for agent in about["agents"]] == ["language_model"] * 2 + ["dqn"]
    shorter = trained(*words, "iterations=2", "output=shorter")
    resume_population(shorter, 4)
    assert_same(folder, shorter)


def test_the_preset_of_language_models_fits_its_model(no_model: None) -> None:
    config = compose_population(["language-models"])
    assert config.model is not None and config.model.name == "smollm2-135m"
    with pytest.raises(AssertionError, match="a model was loaded"):
        run_population(config)
