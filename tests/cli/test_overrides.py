"""Overrides with any letters and signs: they work, or the error says how they are quoted."""

import shlex
from pathlib import Path

import pytest

from comity.commands.launch import launch
from comity.config.compose import compose
from comity.config.limits import LARGEST_SEED
from comity.config.schema import Config
from comity.errors import ComityError

NAMES = [
    "josé",
    "日本",
    "Größe und Ähnliches",
    "a b",
    "a{b}",
    "{a}",
    "{a",
    "a[b]",
    "[b]x",
    "a=b",
    "=a",
    "a#b",
    "#a",
    "a~b",
    "it's",
    'a"b',
    'a\\"b',
    "a\\b",
    "é\\",
    "a(b)",
    "(a)",
    "a&b",
    "a;b",
    "a!b",
    "a<b>",
    "a@b",
    "a%b",
    "a$b",
    "a:b",
    "a+b",
    "a,b",
    "a*?b",
    "a`b`",
]


@pytest.mark.parametrize("path", [*NAMES, "/a folder/josé", "/a{b}/it's"])
def test_any_path_works_or_the_error_says_how_it_is_quoted(path: str) -> None:
    try:
        found = compose("smoke", [f"model.name={path}"]).model.name
    except ComityError as error:
        assert "quote" in str(error) and "\n" not in str(error)
        if "," not in path:  # What looks like a sweep is explained by Hydra.
            # What the last words say can be pasted into a shell.
            (pasted,) = shlex.split(str(error)[str(error).rindex(" '") :])
            found = compose("smoke", [pasted]).model.name
        else:
            found = compose("smoke", [f"model.name='{path}'"]).model.name
    assert found == path


@pytest.mark.parametrize(
    "override", ["seats=[learner,adapter:/t/é]", "record.questions={a: Was ist größer?}"]
)
def test_text_in_lists_and_mappings(override: str) -> None:
    with pytest.raises(ComityError, match="special characters in them, as in 'seats="):
        compose("smoke", [override])


@pytest.mark.parametrize("override", ["seed", "+schlüssel=1", "a b=3", ""])
def test_what_is_no_override(override: str) -> None:
    with pytest.raises(ComityError, match="write key=value or group=option"):
        compose("smoke", [override])


@pytest.mark.parametrize("multirun", [False, True])
def test_home_is_found_behind_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, multirun: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path)
    configs: list[Config] = []

    def train(config: Config) -> Path:
        configs.append(config)
        return Path("run")

    launch(train, "smoke", ["output='~/runs'", "model.name='~/m'"], multirun=multirun)
    assert configs[0].output == str(tmp_path / "me" / "runs")
    assert configs[0].model.name == str(tmp_path / "me" / "m")
    assert not (tmp_path / "~").exists()
    past = compose(
        "smoke", ["opponent_pool=buffer", "opponent_pool.initial_snapshots='~/p'"]
    ).opponent_pool
    assert past is not None and past.initial_snapshots == str(tmp_path / "me" / "p")
    seats = compose("smoke", ["seats=[learner,'adapter:~/a']"]).seats
    assert seats[1] == f"adapter:{tmp_path / 'me' / 'a'}"


@pytest.mark.parametrize("name", ["Größe {b} [c] = # ~ & % $ , + (d)", "#{[", "=~x"])
def test_folders_of_any_name(tmp_path: Path, name: str) -> None:
    """A config folder, and the folder of the runs, also as a multirun."""
    folder = tmp_path / name
    (folder / "game").mkdir(parents=True)
    (folder / "mine.yaml").write_text("defaults: [config, override game: hunt, _self_]\nname: é\n")
    (folder / "game" / "hunt.yaml").write_text("defaults: [_iterated, _self_]\nname: stag_hunt\n")
    configs: list[Config] = []

    def train(config: Config) -> Path:
        configs.append(config)
        return Path("run")

    output = f"output='{folder}/runs'"
    for multirun in (False, True):
        launch(train, "mine", [output], config_dir=str(folder), multirun=multirun)
    for config in configs:
        assert (config.name, config.output) == ("é", f"{folder}/runs")
        assert config.game["name"] == "stag_hunt"
    assert list((folder / "runs").rglob("multirun.yaml"))


@pytest.mark.parametrize(
    "override", ["seed=18446744073709551616", f"seed={LARGEST_SEED + 1}", f"seed={10**40}"]
)
def test_seeds_beyond_what_records_hold(override: str) -> None:
    with pytest.raises(ComityError, match=f"seed: [0-9]+ must be at most {LARGEST_SEED}"):
        compose("smoke", [override])
    with pytest.raises(ComityError, match=r"study\.seeds: .* at most"):
        seed = override.partition("=")[2]
        compose("smoke", [f'study={{seeds: [0, {seed}], arms: {{a: ["iterations=1"]}}}}'])
    assert compose("smoke", [f"seed={LARGEST_SEED}"]).seed == LARGEST_SEED
