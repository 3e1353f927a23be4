"""A config folder or a run that somebody shared: data, which runs nothing and reads nothing else.

Every attack must be refused before anything of it happens, by `comity train`, as a multirun and
where the arms of a study are composed.
"""

import os
import sys
from pathlib import Path

import pytest

from comity.commands.launch import launch
from comity.config.compose import arm_configs, compose, load_config
from comity.config.schema import Config
from comity.config.yaml_files import to_yaml
from comity.errors import ComityError

SECRET = "a-secret-of-this-machine"

CANARY = """
import os
os.environ["CANARY"] = "sung"
class Callback:
    def __init__(self, **_):
        os.environ["CANARY"] = "sung"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shared folder with code beside its configs, in which the command is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COMITY_TEST_SECRET", SECRET)
    monkeypatch.setenv("CANARY", "")
    package = tmp_path / "canary"
    package.mkdir()
    (package / "__init__.py").write_text(CANARY)
    (package / "conf.yaml").write_text("seed: 3\n")
    (tmp_path / "game").mkdir()
    (tmp_path / "hydra" / "launcher").mkdir(parents=True)
    (tmp_path / "hydra" / "launcher" / "mine.yaml").write_text("_target_: canary.Callback\n")
    (tmp_path / "hydra" / "callbacks").mkdir()
    (tmp_path / "hydra" / "callbacks" / "mine.yaml").write_text("c: {_target_: canary.Callback}\n")
    (tmp_path / "secrets.yaml").write_text("why: the password\n")
    return tmp_path


def refused(folder: Path, text: str, *overrides: str) -> None:
    """Whichever way the file is run, it ends in one line and nothing came of it."""
    (folder / "shared").mkdir(exist_ok=True)
    for name in ("game", "hydra"):
        if not (folder / "shared" / name).exists():
            (folder / name).rename(folder / "shared" / name)
    (folder / "shared" / "x.yaml").write_text(text)
    before = dict(os.environ)
    trained: list[Config] = []

    def train(config: Config) -> Path:
        trained.append(config)
        return Path("run")

    shared = str(folder / "shared")
    for attempt in (
        lambda: launch(train, "x", overrides, config_dir=shared),
        lambda: launch(train, "x", [*overrides, "seed=1,2"], config_dir=shared, multirun=True),
        lambda: compose("x", overrides, shared),
    ):
        with pytest.raises(ComityError) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert SECRET not in str(caught.value)
    assert trained == []
    assert os.environ["CANARY"] == "" and "canary" not in sys.modules
    assert dict(os.environ) == before
    assert not (folder / "written.log").exists()
    assert not list(folder.rglob("multirun.yaml"))


BASE = "defaults: [config, override experiment: smoke, _self_]\n"


@pytest.mark.parametrize(
    "text",
    [
        BASE + "hydra: {job: {env_set: {COMITY_PARTS: canary/__init__.py}}}\n",
        BASE + "hydra: {job: {env_copy: [COMITY_TEST_SECRET]}}\n",
        BASE + "hydra: {callbacks: {c: {_target_: canary.Callback}}}\n",
        BASE + "hydra: {launcher: {_target_: canary.Callback}}\n",
        BASE + "hydra: {sweeper: {_target_: canary.Callback}}\n",
        BASE + "hydra: {sweeper: {params: {seed: '1,2'}}}\n",
        BASE + "hydra: {searchpath: ['pkg://canary']}\n",
        BASE + "hydra: {searchpath: ['file:///etc']}\n",
        BASE + "hydra: {mode: MULTIRUN}\n",
        BASE + "hydra: {run: {dir: elsewhere}}\n",
        BASE + "hydra: {job: {chdir: true}}\n",
        BASE + "hydra: {output_subdir: here}\n",
        BASE + "hydra: null\n",
        BASE + "hydra: {job_logging: {version: 1, handlers: {f: {class: logging.FileHandler, "
        "filename: written.log}}, root: {handlers: [f]}}}\n",
        BASE + "hydra.job.env_set: {A: b}\n",
        "# @package hydra.job\nenv_set: {A: b}\n",
        "# @package hydra\ncallbacks: {c: {_target_: canary.Callback}}\n",
        "defaults: [config, override hydra/callbacks: mine, _self_]\n",
        "defaults: [config, hydra/callbacks: mine, _self_]\n",
        "defaults: [config, override hydra/launcher: mine, _self_]\n",
        "defaults: [config, override /hydra/launcher: mine, _self_]\n",
        "defaults: [config, override hydra/job_logging: stdout, _self_]\n",
        "defaults: [config, optional hydra/callbacks: mine, _self_]\n",
        "defaults: [config, hydra/callbacks/mine, _self_]\n",
        "defaults: [config, game@hydra.job: x, _self_]\n",
        "defaults: [config, game/x@hydra.callbacks, _self_]\n",
        "defaults: [config, override game@game:hydra.job: x, _self_]\n",
        "defaults: [config, override hydra/launcher: ../../canary/conf, _self_]\n",
        "defaults: [config, ../secrets@record.questions, _self_]\n",
        "defaults: [config, /../secrets@record.questions, _self_]\n",
    ],
)
def test_a_file_that_touches_hydra_or_leaves_its_folder(folder: Path, text: str) -> None:
    refused(folder, text)


@pytest.mark.parametrize(
    "text",
    [
        "# @package hydra.job\nenv_set: {A: b}\n",
        "# @package _global_\nhydra: {callbacks: {c: {_target_: canary.Callback}}}\n",
        "hydra: {callbacks: {c: {_target_: canary.Callback}}}\n",
        "# @package _global_\ndefaults: [/hydra/callbacks: mine]\n",
        "name: ${oc.env:COMITY_TEST_SECRET}\n",
    ],
)
def test_a_file_of_a_group(folder: Path, text: str) -> None:
    (folder / "game" / "theirs.yaml").write_text(text)
    refused(folder, "defaults: [config, override game: theirs, _self_]\n")
    refused(folder, BASE, "game=theirs")


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:COMITY_TEST_SECRET}",
        "${oc.env:COMITY_TEST_SECRET,x}",
        "${oc.decode:${oc.env:COMITY_TEST_SECRET}}",
        "${oc.create:{a: b}}",
        "${oc.select:seed}",
        "${oc.deprecated:seed}",
        "${oc.dict.keys:model}",
        "${hydra:runtime.cwd}",
        "${now:%Y}",
        "${python_version:}",
        "a ${ oc.env : COMITY_TEST_SECRET } b",
        "${${name}:COMITY_TEST_SECRET}",
        "${oc.${name}:COMITY_TEST_SECRET}",
        "\\${oc.env:COMITY_TEST_SECRET}",
        "\\\\${oc.env:COMITY_TEST_SECRET}",
        "\\${seed}",
    ],
)
def test_what_is_more_than_a_reference(folder: Path, value: str) -> None:
    for key in ("model: {name: '%s'}", "name: '%s'", "output: '%s'", "seats: [{name: '%s'}]"):
        refused(folder, BASE + key % value + "\n")
    refused(folder, BASE, f"name='{value}'")
    refused(folder, f"defaults: [config, override game: '{value}', _self_]\n")


def test_a_reference_to_another_value_is_fine(folder: Path) -> None:
    (folder / "x.yaml").write_text(BASE + 'name: of-${seed}\nadapter: {alpha: "${.rank}"}\n')
    config = compose("x", ["seed=7"], str(folder))
    assert config.name == "of-7" and config.adapter.alpha == config.adapter.rank


@pytest.mark.parametrize(
    "override",
    [
        "hydra.job.env_set.A=b",
        "+hydra.job.env_set.A=b",
        "++hydra.job.env_set.A=b",
        "~hydra.job",
        "hydra={job: {chdir: true}}",
        "+hydra.callbacks.c._target_=canary.Callback",
        "hydra.launcher._target_=canary.Callback",
        "+hydra.launcher._target_=canary.Callback",
        "hydra.launcher={_target_: canary.Callback}",
        "+hydra.sweeper.sampler={_target_: canary.Callback}",
        "+hydra.sweeper.sampler._target_=canary.Callback",
        "+hydra.sweeper.a=[{_target_: canary.Callback}]",
        "hydra/launcher=../../canary/conf",
        "+hydra/launcher@hydra.callbacks=basic",
        "hydra.searchpath=[pkg://canary]",
        "+game@hydra.job=chicken",
        "+game@game:hydra.job=chicken",
        "hydra/callbacks=mine",
        "+hydra/callbacks=mine",
        "hydra/job_logging=stdout",
        "hydra.run.dir=x",
        "hydra.mode=MULTIRUN",
        "--multirun",
        "--config-dir=canary",
    ],
)
def test_overrides(folder: Path, override: str) -> None:
    refused(folder, BASE, override)
    # The arms of a study are overrides, and stand in a file.
    (folder / "study.yaml").write_text(
        f"{BASE}study: {{seeds: [0], arms: {{a: ['{override}']}}}}\n"
    )
    config = compose("study", (), str(folder))
    with pytest.raises(ComityError, match=r"^arm 'a': "):
        arm_configs(config)
    assert os.environ["CANARY"] == "" and "canary" not in sys.modules


def test_a_launcher_is_chosen_by_name(folder: Path) -> None:
    seeds: list[int] = []

    def train(config: Config) -> Path:
        seeds.append(config.seed)
        return Path("run")

    (folder / "hydra").rename(folder / "aside")
    (folder / "x.yaml").write_text(
        "defaults: [config, override experiment: smoke, override hydra/launcher: basic, _self_]\n"
    )
    overrides = ["seed=1,2", "hydra/sweeper=basic", "hydra.sweeper.max_batch_size=1"]
    launch(train, "x", overrides, config_dir=str(folder), multirun=True)
    assert seeds == [1, 2]
    with pytest.raises(ComityError, match=r"hydra/sweeper=basic: .* with --multirun"):
        launch(train, "smoke", ["hydra/sweeper=basic"])


def test_links_that_leave_the_folder(folder: Path) -> None:
    shared = folder / "shared"
    shared.mkdir()
    (folder / "secrets.yaml").write_text("name: chicken\n")
    (folder / "game").rename(shared / "game")
    (shared / "game" / "theirs.yaml").symlink_to(folder / "secrets.yaml")
    refused(folder, "defaults: [config, override game: theirs, _self_]\n")


# Stored runs


@pytest.mark.parametrize("value", ["${oc.env:COMITY_TEST_SECRET}", "${seed}", "\\${seed}"])
def test_a_stored_config_is_not_resolved(folder: Path, value: str) -> None:
    stored = to_yaml(compose("smoke")).replace("smollm2-135m", f"'{value}'")
    (folder / "config.yaml").write_text(stored)
    with pytest.raises(
        ComityError, match=r"config\.yaml: .* must not contain references"
    ) as caught:
        load_config(folder / "config.yaml")
    assert SECRET not in str(caught.value)


def test_a_stored_composition_runs_nothing(folder: Path) -> None:
    study = 'study={seeds: [0], arms: {a: ["iterations=1"]}}'
    config = compose("smoke", [study])
    config.composition.overrides.append("hydra.searchpath=[pkg://canary]")
    (folder / "config.yaml").write_text(to_yaml(config))
    with pytest.raises(ComityError, match=r"hydra\.searchpath"):
        arm_configs(load_config(folder / "config.yaml"))
    assert "canary" not in sys.modules


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
)


def test_aliases_of_aliases_fill_no_memory(folder: Path) -> None:
    (folder / "config.yaml").write_text(BOMB)
    with pytest.raises(ComityError, match="aliases expand to too many values"):
        load_config(folder / "config.yaml")
    refused(folder, BOMB)


def test_what_is_no_file_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "config.yaml")
    with pytest.raises(ComityError, match="not a regular file"):
        load_config(folder / "config.yaml")
    os.mkfifo(folder / "game" / "theirs.yaml")
    refused(folder, "defaults: [config, override game: theirs, _self_]\n")


def test_a_file_in_another_encoding_is_named(folder: Path) -> None:
    for name, text in (("config.yaml", "name: wähle\n"), ("game/theirs.yaml", "# wähle\n")):
        (folder / name).write_bytes(text.encode("latin-1"))
    for read in (
        lambda: load_config(folder / "config.yaml"),
        lambda: compose("config", (), str(folder)),
        lambda: compose("x", ["game=theirs"], str(folder)),
    ):
        (folder / "x.yaml").write_text(BASE)
        with pytest.raises(ComityError, match=r"(config|theirs)\.yaml is not UTF-8 \(byte \d+\)"):
            read()
