"""The grammar of compositions, its types and its errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.games import make_game
from comity.populations.composition import parse
from comity.populations.settings import PAIR_GAME, PopulationSettings
from comity.populations.train import build_population
from comity.populations.types import FIXED_TYPES, LEARNER_TYPES, type_reward
from comity.rewards import REWARDS
from comity.rewards.virtue import MixedVirtue

GAME = PAIR_GAME
TYPES = sorted([*LEARNER_TYPES, *FIXED_TYPES, *REWARDS])


@given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from(TYPES)), min_size=2, max_size=6))
def test_agents_take_indices_in_the_written_order(items: list[tuple[int, str]]) -> None:
    found = parse("_".join(f"{count}x{kind}" for count, kind in items))
    assert list(found.members) == [kind for count, kind in items for _ in range(count)]
    assert len(set(found.labels)) == found.size == sum(count for count, _ in items)


def test_prefixes_name_kinds_and_folders_are_kept() -> None:
    found = parse("1xLLM:UT_2xtabular:S_1xLLM:run:runs/a_b/x_1_1xTFT")
    assert found.members == ("LLM:UT", "tabular:S", "tabular:S", "LLM:run:runs/a_b/x_1", "TFT")
    assert found.types == ("UT", "S", "S", "LLM:run:runs/a_b/x_1", "TFT")
    assert found.labels[2] == "tabular:S 1"


def test_what_follows_from_the_members_is_computed_once() -> None:
    """It is asked for agent by agent: of 2,000 agents, anew each time, for a minute and a half."""
    found = parse("2000xS_1xTFT_1xS")
    assert found.numbers[-2:] == (0, 2000)
    assert found.types is found.types and found.numbers is found.numbers
    assert found.labels is found.labels


@pytest.mark.parametrize(
    ("text", "caret", "says"),
    [
        ("1xS_1xUTT", 6, "did you mean UT"),
        ("1xS_1xtft", 6, "did you mean TFT"),
        ("1xS_1xTitForTat", 6, "TFT"),
        ("1xS_0xUT", 4, "count must be at least 1"),
        ("1xS", 0, "at least two agents"),
        ("", 0, "COUNTxTYPE"),
        ("S_UT", 0, "COUNTxTYPE"),
        ("1xS_", 4, "COUNTxTYPE"),
        ("1xS_-1xUT", 4, "COUNTxTYPE"),
        ("8xS_UT", 4, "COUNTxTYPE"),
        ("1xS__1xUT", 4, "COUNTxTYPE"),
        ("1xLLM:S_xUT", 8, "COUNTxTYPE"),
        ("1xanti_utilitaran", 2, "did you mean anti_utilitarian"),
        ("1xS_2x", 6, "a type after x"),
        ("1xS_1xLLM:TFT", 6, "fixed strategy"),
        ("1xS_1xLLM:UTT", 10, "did you mean UT"),
        ("1xS_1xLLM:run:", 14, "folder"),
    ],
)
def test_errors_point_at_the_place(text: str, caret: int, says: str) -> None:
    with pytest.raises(ComityError) as error:
        parse(text)
    problem, shown, pointer = str(error.value).split("\n")
    assert says in problem
    assert shown == f"  {text}" and pointer == " " * (2 + caret) + "^"


def test_every_type_has_the_reward_of_its_study() -> None:
    assert type_reward("DE", GAME).penalty == type_reward("mDE", GAME).penalty == 5  # type: ignore[attr-defined]
    assert type_reward("VEk", GAME).bonus == type_reward("Vagg", GAME).bonus == 5  # type: ignore[attr-defined]
    published = {kind: type_reward(kind, GAME).published for kind in LEARNER_TYPES}
    assert published == {
        "S": "game",
        "UT": "ut",
        "DE": "de",
        "VEe": "v_eq",
        "VEk": "v_kind",
        "VM": "v_mixed",
        "AL": "altruist",
        "aUT": "anti_ut",
        "mDE": "mal_de",
        "Vie": "v_ineq",
        "Vagg": "v_agg",
        "aAL": "anti_altruist",
    }


def test_any_reward_can_be_a_type() -> None:
    assert type_reward("peers", GAME).published.startswith("margin")
    override = {"UT": {"name": "mixed_virtue", "beta": 0.2}, "rival": {"name": "peers"}}
    assert type_reward("UT", GAME, override) == MixedVirtue(beta=0.2)
    settings = PopulationSettings("1xrival_1xUT_1xaltruist", rewards=override, runs=1)
    assert build_population(settings).composition.types == ("rival", "UT", "altruist")


@pytest.mark.parametrize(
    ("composition", "changes", "says"),
    [
        ("1xS_1xLLM:UT", {}, "need a model"),
        ("1xS_2xUT", {"matching": "fixed"}, "even number"),
        ("1xS_1xUT", {"matching": "lottery"}, "unknown matching"),
        ("1xS_1xUT", {"state": "everything"}, "unknown state"),
        ("1xS_1xUT", {"learner": "dnq"}, "did you mean dqn"),
        ("13xS", {"learner": "tabular"}, "at most 11 partners"),
        ("1xS_1xUT", {"game": make_game({"name": "public_goods"})}, "4 seats"),
        ("1xS_1xUT", {"game": make_game({"name": "deal_or_no_deal"})}, "one matrix game"),
        ("1xS_1xUT", {"game": make_game({"name": "random_dilemma"})}, "fixed payoff table"),
        ("1xS_1xUT", {"beta": 2.0}, "beta"),
        ("1xS_1xUT", {"runs": 0}, "runs must be at least 1"),
        ("1xS_1xUT", {"rewards": {"UT": {"name": "peers", "other_s": 1}}}, "unknown parameter"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    composition: str, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ComityError, match=says):
        build_population(PopulationSettings(composition, **changes))  # type: ignore[arg-type]
