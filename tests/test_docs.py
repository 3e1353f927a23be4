"""The documentation's commands, configs and links are real."""

import dataclasses
import os
import re
import shlex
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from comity.commands.launchers import split_launcher
from comity.commands.listing import MODEL_PLAYERS
from comity.config.compose import compose
from comity.config.schema import Config
from comity.config.seats import check_seat
from comity.evaluation.metrics import further_metrics
from comity.evaluation.moral.metrics import reward_table
from comity.evaluation.tournament.metrics import all_metrics as all_tournament_metrics
from comity.experiments.rules import Rules
from comity.games import make_game
from comity.games.base import Observation, Round
from comity.players.scripted.catalog import STRATEGIES, check_can_play, make_strategy
from comity.registry import build, own_parts
from comity.rewards import REWARDS, base

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}

ADDING = "docs/how-to/add-a-part.md"


def blocks(text: str, language: str) -> list[str]:
    """The contents of a page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


TRAININGS = [
    line
    for text in TEXTS.values()
    for block in blocks(text, "sh")
    for line in block.splitlines()
    if line.startswith("comity train ") and "--config-path" not in line
]
FILES = [
    block
    for text in TEXTS.values()
    for block in blocks(text, "yaml")
    if re.search(r"^defaults: *\[config\b|^defaults:\n *- config\b", block, flags=re.M)
]
"""Whole configs: an option of a group builds on others of its group."""


def check_names(config: Config) -> None:
    """Everything that a config names exists and takes the parameters that it is given."""
    rules = Rules.of(config)
    assert len(config.seats) == rules.game.seats
    for seat in config.seats:
        check_seat(seat)


@pytest.fixture(autouse=True)
def theories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's folder, with the modules of the how-tos on moral theories and on parts."""
    (module,) = [
        block
        for block in blocks(TEXTS["docs/how-to/own-moral-theory.md"], "python")
        if "class WorstOff" in block
    ]
    (tmp_path / "theories.py").write_text(module)
    (tmp_path / "mine.py").write_text("\n".join(blocks(TEXTS[ADDING], "python")))
    monkeypatch.chdir(tmp_path)
    files = [str(tmp_path / "mine.py"), str(tmp_path / "theories.py")]
    monkeypatch.setenv("COMITY_PARTS", os.pathsep.join(files))


def test_the_how_to_on_moral_theories_is_right_about_its_numbers() -> None:
    """Worth 3, 0, 0, 1 after CC, CD, DC, DD."""
    reward = build("reward", {"name": "worst_off"}, REWARDS)
    game = make_game({"name": "prisoners_dilemma_4310"})
    found = reward_table(reward, game).values[0, 0, :2]
    assert found.tolist() == [[3, 0], [0, 1]]
    weighted = build(
        "reward", {"name": "weighted", "terms": {"own": 0.5, "worst_off": 0.5}}, REWARDS
    )
    assert reward_table(weighted, game).values[0, 0, :2].tolist() == [[3, 0], [2, 1]]


def test_the_classes_that_the_how_to_on_moral_theories_names_exist() -> None:
    for name in re.findall(r"`([A-Z][a-z]+[A-Za-z]*)`", TEXTS["docs/how-to/own-moral-theory.md"]):
        assert name == "WorstOff" or hasattr(base, name), name


def test_the_parts_of_the_how_to_are_as_it_says() -> None:
    written = [yaml.safe_load(block) for block in blocks(TEXTS[ADDING], "yaml")]
    assert [block["name"] for block in written] == ["toll", "worst_off", "brief", "shared_credit"]
    kinds = {
        "toll": "stage",
        "worst_off": "reward",
        "brief": "prompt",
        "shared_credit": "algorithm",
    }
    for block in written:
        name = block.pop("name")
        part = own_parts(kinds[name])[name]
        made = part(**{key: value for key, value in block.items() if key != "defaults"})
        assert made == part(), f"the YAML of {name} has other defaults"
    player = build("player", "gradual", STRATEGIES)
    table = [[[float(own == other)] * 2 for other in range(3)] for own in range(3)]
    coordination = make_game({"name": "matrix", "moves": ["a", "b", "c"], "payoffs": table})
    last: Any = make_strategy({"name": "stubborn", "move": 2})
    check_can_play(last, coordination, 0)
    turn = coordination.turns(coordination.start(0))[0]
    assert last.reply(turn, coordination, None) == 2
    (row,) = re.findall(r'`"gradual": \(([\d., ]+)\)`', TEXTS[ADDING])
    dilemma = make_game({"name": "prisoners_dilemma"})
    joints = [(), *([joint] for joint in product((0, 1), repeat=2))]
    known = [
        Observation(0, 2, len(seen), tuple(Round(one, one, (0.0, 0.0)) for one in seen))
        for seen in joints
    ]
    chances = [player.probabilities(one, dilemma)[0] for one in known]
    assert chances == [float(number) for number in row.split(",")]
    assert further_metrics([])["forgiveness"] is None
    assert all_tournament_metrics()["last_round_defection"].bounds == "share"


@pytest.mark.parametrize("command", sorted(set(TRAININGS)))
def test_a_training_in_the_docs_can_be_composed(command: str) -> None:
    """Each combination that a `--multirun` line stands for begins with its first values."""
    # A launcher of a study's runs is checked, too.
    _, words = split_launcher([w for w in shlex.split(command)[2:] if w != "--multirun"])
    if "--multirun" in command:
        words = [
            word if re.search(r"[\[{]", word) else re.sub(r"=([^,]*),.*", r"=\1", word)
            for word in words
        ]
    check_names(compose(words[0], words[1:]))


@pytest.mark.parametrize("text", FILES, ids=lambda text: yaml.safe_load(text)["name"])
def test_a_config_file_in_the_docs_can_be_composed(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    config = compose("mine", config_dir=str(tmp_path))
    check_names(config)
    assert config.name == yaml.safe_load(text)["name"]


@pytest.mark.parametrize("page", TEXTS)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXTS[page]):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_the_page_of_players_has_all_of_them_with_their_parameters() -> None:
    page = TEXTS["docs/reference/players.md"]
    for name, strategy in STRATEGIES.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", page, flags=re.M)
        if not dataclasses.is_dataclass(strategy):
            continue
        for field in dataclasses.fields(strategy):
            default = "null" if field.default is None else field.default
            assert f"`{field.name}` ({default})" in row, row
    for name in MODEL_PLAYERS:
        assert f"| `{name}` |" in page


def test_the_docs_hold_commands_and_configs_to_check() -> None:
    assert len(TRAININGS) > 10
    assert len(FILES) >= 3
