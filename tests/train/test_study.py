"""A study from end to end: arms and seeds, the cross-play, stopping and going on."""

import json
from collections import Counter
from pathlib import Path

import pytest

import comity.commands.study
import comity.commands.study_runs
import comity.train
from comity.cli import main
from comity.commands.run import run as train
from comity.config.compose import compose
from comity.config.schema import Config
from comity.errors import ComityError
from comity.experiments.build import Experiment
from comity.rollout.record_files import read_columns
from comity.runs.folder import read_decisions, stored_config
from tests.train.small import Stopped, failing, metrics, only_folder, overrides, small

PLAYERS = ("own", "utilitarian", "base", "tit_for_tat", "{name: random, p: 0.3}")
CHANGES = (
    "iterations=2",
    "checkpoint.every=1",
    "study.seeds=[0,1]",
    f"crossplay.players=[{','.join(PLAYERS)}]",
    "crossplay.matches=2",
)
RUNS = [f"{arm}/seed-{seed}" for seed in (0, 1) for arm in ("own", "utilitarian")]


def study(output: Path, *changes: str) -> Config:
    return compose("demo", overrides(output, *CHANGES, *changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was never interrupted, by the command."""
    output = tmp_path_factory.mktemp("studies")
    assert main(["train", "demo", *overrides(output, *CHANGES)]) == 0
    return only_folder(output)


def same_numbers(one: Path, other: Path) -> None:
    """Runs, cross-play and the numbers of the page are equal."""
    for run in RUNS:
        assert metrics(one / run) == metrics(other / run)
    tables = [study / "crossplay/decisions.parquet" for study in (one, other)]
    assert [repr(d) for d in read_decisions(tables[0])] == [
        repr(d) for d in read_decisions(tables[1])
    ]
    summaries = [json.loads((study / "summary.json").read_text()) for study in (one, other)]
    for key in ("policies", "crossplay"):
        assert summaries[0][key] == summaries[1][key]


def test_a_study_leaves_runs_a_crossplay_and_a_page(finished: Path) -> None:
    listed = json.loads((finished / "study.json").read_text())["arms"]
    assert listed == {
        arm: [f"{arm}/seed-{seed}" for seed in (0, 1)] for arm in ("own", "utilitarian")
    }
    for run in RUNS:
        assert len(metrics(finished / run)) == 2
        config = stored_config(finished / run)
        assert f"{config.reward['name']}/seed-{config.seed}" == run
        assert config.study is None and config.crossplay is None
    # From the same base and matches, by different rewards.
    own, utilitarian = (metrics(finished / run) for run in RUNS[:2])
    assert own[0]["cooperation"] == utilitarian[0]["cooperation"]
    assert own[0]["loss"] != utilitarian[0]["loss"]
    summary = json.loads((finished / "summary.json").read_text())
    names = {"own", "utilitarian", "base", "tit_for_tat", "random(p=0.3)"}
    assert summary["crossplay"].keys() == names
    for row in names:
        for column in names:
            assert summary["crossplay"][row][column]["payoff"]["n"] >= 2
    assert {"own", "utilitarian", "base"} <= summary["policies"].keys()


def test_the_crossplay_is_everyone_with_everyone(finished: Path) -> None:
    table = finished / "crossplay/decisions.parquet"
    columns = read_columns(table, "decision")
    wanted = ("match", "pairing", "player", "seat", "version", "trained")
    rows = list(zip(*(columns[name] for name in wanted), strict=True))
    pairings = {match: pairing for match, pairing, *_ in rows}
    # 15 pairs under both seeds, 2 matches each.
    assert set(Counter(pairings.values()).values()) == {2}
    assert len(set(pairings.values())) == 2 * 15
    for _, pairing, player, _, version, trained in rows:
        row, column, _ = pairing.split("|")
        assert player in (row, column) and not trained
        assert version == (2 if player in ("own", "utilitarian") else -1)
    seats = {(pairing, player, seat) for _, pairing, player, seat, *_ in rows}
    assert ("own|base|0", "own", 0) in seats and ("own|base|0", "own", 1) in seats


STOPS = {
    "between two arms": (comity.commands.study_runs, "train_run", 3),
    "in the second arm": (comity.train, "play", 4),
    "in the cross-play": (comity.commands.study, "crossplay", 1),
    "writing the cross-play": (comity.commands.study, "write_table", 2),
}


@pytest.mark.parametrize("place", STOPS)
def test_a_study_that_was_stopped_goes_on(
    place: str, finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, *STOPS[place], Stopped())
        with pytest.raises(Stopped):
            train(study(tmp_path))
    folder = only_folder(tmp_path)
    assert not (folder / "report.html").exists()
    assert main(["train", "--resume", str(folder)]) == 0
    same_numbers(folder, finished)


def test_a_finished_study_trains_nothing_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in (
        (comity.commands.study_runs, "train_run"),
        (comity.commands.study, "crossplay"),
    ):
        failing(monkeypatch, owner, name, 1, AssertionError("it was done again"))
    assert train(stored_config(finished), resume=finished) == finished


def test_two_learners_and_saved_adapters_meet(finished: Path, tmp_path: Path) -> None:
    """An arm with two learners is named with one; an adapter by its folder."""
    saved = finished / "own/seed-0/checkpoints/000002/main"
    config = study(
        tmp_path,
        "iterations=1",
        "study.seeds=[0]",
        "seats=[learner:a,learner:b]",
        f"crossplay.players=['own:a','own:b','adapter:{saved}']",
    )
    folder = train(config)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["crossplay"].keys() == {"own:a", "own:b", f"adapter:{saved}"}
    with Experiment(small(tmp_path / "next")) as experiment:
        assert experiment.engine.adapters.names == ["main"], "adapters were left behind"


def test_a_crossplay_without_a_study(tmp_path: Path) -> None:
    config = small(tmp_path, "+crossplay.players=[base,tit_for_tat]", "+crossplay.matches=2")
    folder = train(config)
    assert (folder / "report.html").is_file()


def test_a_crossplay_after_a_run_that_is_no_study(tmp_path: Path) -> None:
    """The run is trained, and is called as the experiment there, as on the page of the run."""
    players = "+crossplay.players=[learner,base,tit_for_tat]"
    folder = train(small(tmp_path, players, "+crossplay.matches=2", "iterations=2", "seed=3"))
    assert len(metrics(folder / "ipd" / "seed-3")) == 2
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["crossplay"].keys() == {"ipd", "base", "tit_for_tat"}
    assert train(stored_config(folder), resume=folder) == folder, "it goes on"
    two = ("seats=[learner:a,learner:b]", "+crossplay.players=['learner:a','learner:b']")
    folder = train(small(tmp_path / "two", *two, "iterations=1", "+crossplay.matches=2"))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["crossplay"].keys() == {"ipd:a", "ipd:b"}


@pytest.mark.parametrize("name", ["learner", "ipd"])
def test_the_only_arm_has_one_name_however_it_came_about(name: str, tmp_path: Path) -> None:
    given = [f"+crossplay.players=[{name},tit_for_tat]", "+crossplay.matches=2", "iterations=1"]
    for number, seeds in enumerate(([], ["study.seeds=[0,1]"])):
        folder = train(small(tmp_path / str(number), *given, *seeds))
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["crossplay"].keys() == {"ipd", "tit_for_tat"}
        assert "ipd" in summary["policies"]


REFUSED = {
    "did you mean utilitarian": ("crossplay.players=[own,utilitarain]",),
    "give an arm's name": ("crossplay.players=[own,learner]",),
    "'base' is the name of another player": ("+study.arms.base=[]",),
    "'random' is the name of another player": ("+study.arms.random=[]",),
    "two players have the name 'own'": ("crossplay.players=[own,own]",),
    "unknown learner of arm 'own' 'main'": ("seats=[learner:a,learner:b]",),
    "no adapter_config.json in the folder": ("crossplay.players=[own,adapter:nowhere]",),
    "p must lie between": ("crossplay.players=[{name: random, p: 3}]",),
    "crossplay: needs a game of two seats": (
        "game=public_goods",
        "seats=[learner,learner,learner,learner]",
    ),
    "arm 'own'": ("study.arms={own: ['reward=owm']}", "crossplay=null"),
    "no seat has a learner": ("seats=[base,base]",),
    "there is no Python at": ("engine=vllm", "engine.python=nowhere"),
    "http://127.0.0.1:9/v1": (
        "seats=[learner,'api:m@http://127.0.0.1:9/v1']",
        "crossplay=null",
        "study.arms={own: ['reward=own']}",
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_mistakes_are_told_before_anything_is_trained(
    message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing(
        monkeypatch,
        comity.experiments.backends,
        "load_model",
        1,
        AssertionError("a model was loaded"),
    )
    with pytest.raises(ComityError, match=message):
        train(study(tmp_path, *REFUSED[message]))
    assert not list(tmp_path.iterdir())


def arms(output: Path, *, one: str, other: str, players: str = "one,other,base") -> Config:
    """A study whose arms differ in overrides."""
    study = f"study={{seeds: [0], arms: {{one: [{one}], other: [{other}]}}}}"
    crossplay = f"crossplay={{players: [{players}], matches: 2}}"
    changes = ("iterations=1", "checkpoint.every=1", "optimizer.learning_rate=0")
    return compose("ipd", overrides(output, *changes, study, crossplay))


def test_arms_that_were_told_otherwise_play_as_they_were_trained(tmp_path: Path) -> None:
    """Both arms are the base model, told differently: so are their probabilities."""
    folder = comity.commands.study.run_study(
        arms(tmp_path, one="'temperature=0.5','prompt=memory_one'", other="'prompt=memory_one'")
    )
    found = read_decisions(folder / "crossplay" / "decisions.parquet")
    first: dict[str, set[float]] = {}
    for d in found:
        if not d.state:
            assert d.probabilities is not None
            first.setdefault(d.player, set()).add(round(d.probabilities[0], 4))
    for arm, seed in (("one", "one/seed-0"), ("other", "other/seed-0")):
        played = read_decisions(folder / seed / "decisions" / "000000.parquet")
        trained = {round(d.probabilities[0], 4) for d in played if not d.state and d.probabilities}
        assert first[arm] == trained, "as in its training"
    assert first["one"] != first["other"]
    # What all arms agree on holds for the others too: the base is asked by memory_one.
    conditions = json.loads((folder / "crossplay" / "conditions.json").read_text())
    assert conditions["default"]["prompt"]["name"] == "memory_one"
    assert list(conditions["arms"]) == ["one"]
    assert first["base"] == first["other"]
    notes = json.loads((folder / "summary.json").read_text())["notes"]
    assert notes == ["Cross-play: one plays as it was trained (temperature 0.5), "
                     "the others with temperature 1.0."]  # fmt: skip
    assert notes[0] in (folder / "report.html").read_text()


def test_a_crossplay_is_of_the_game_that_its_arms_were_trained_on(tmp_path: Path) -> None:
    chicken = "'game=chicken'"
    agreed = comity.commands.study.check_study(arms(tmp_path, one=chicken, other=chicken))
    config = arms(tmp_path, one=chicken, other=chicken)
    assert comity.commands.study.crossplay_config(config, agreed).game["name"] == "chicken"
    with pytest.raises(ComityError, match="'one' and 'other' were trained on different games"):
        comity.commands.study.check_study(arms(tmp_path, one=chicken, other=""))
    # Of arms that do not play, nothing is asked.
    comity.commands.study.check_study(arms(tmp_path, one=chicken, other="", players="one,base"))
