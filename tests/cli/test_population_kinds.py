"""Populations with agent kinds of one's own and with language models."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from comity.cli import main
from comity.commands.population import resume_population, run_population
from comity.config.population import compose_population
from comity.errors import ComityError
from comity.populations.settings import PopulationSettings
from comity.populations.train import build_population
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


def test_a_kind_of_ones_own_beside_others(kinds: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "agents", "bush"]) == 0
    assert "bush:TYPE  The probability of a move" in capsys.readouterr().out
    folder = trained("2xbush:S_1xUT_1xTFT", *SMALL, *FEW, "iterations=40")
    about = json.loads((folder / "agents.json").read_text())
    assert [agent["kind"] for agent in about["agents"]] == ["bush", "bush", "dqn", "fixed"]
    shorter = trained("2xbush:S_1xUT_1xTFT", *SMALL, *FEW, "iterations=20", "output=shorter")
    resume_population(shorter, 40)
    assert_same(folder, shorter)


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("def save(self)", "def keep(self)", "agent kind 'bush' lacks save"),
        (", *, practice=False", "", "act needs the parameter `practice`"),
        ("self.agents = members.agents", "self.agents = [5]", "must be members.agents"),
        ("(latest + draws).argmin(axis=2)]", "0]", r"select must return whole .* \(2, 2\), not"),
        (".astype(np.int8)", ".astype(float)", r"act must return whole numbers .*, not float64"),
        (".astype(np.int8)", ".astype(np.int8) + 1", "act must return 0, 1, or -1"),
        (".astype(np.int8)", ".astype(np.int8)[1:]", "act must return whole numbers"),
        ('        return {"aspiration"', '        return\n        {"aspiration"', "not NoneType"),
        (".reshape(self._shape).copy()", "", "statistic 'aspiration' must return the shape"),
    ],
)
def test_a_mistake_in_a_kind_is_named_as_the_kinds(
    right: str, wrong: str, says: str, kinds: None, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (here / "kinds.py").read_text()
    assert right in text
    (here / "mistaken.py").write_text(text.replace(right, wrong))
    monkeypatch.setenv("COMITY_PARTS", str(here / "mistaken.py"))
    settings = PopulationSettings("2xbush:S_1xTFT", iterations=2, runs=2, random_matching=False)
    with pytest.raises(ComityError, match=says):
        build_population(settings).run()


def test_an_error_in_a_kind_names_its_line(
    kinds: None, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (here / "kinds.py").read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if "games, rows = self._games" in line)
    lines[place] += " + 1"
    (here / "raising.py").write_text("\n".join(lines))
    monkeypatch.setenv("COMITY_PARTS", str(here / "raising.py"))
    assert main(["population", "2xbush:S", "--iterations", "2", "--runs", "1"]) == 1
    said = capsys.readouterr().err
    assert f"(in raising.py, line {place + 1}; --debug shows the traceback)" in said


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
