"""Configs and parts that are read once are those that reading them anew gives."""

import dataclasses
import os
import sys
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from comity.config.compose import compose, register_schema
from comity.config.sources import beside_hydra, compose_ours, new_hydra
from comity.config.yaml_files import read_yaml, to_yaml
from comity.errors import ComityError
from comity.registry import installed_parts


@pytest.mark.parametrize(
    "text",
    [
        "rate: 1e-5\nwhen: 2026-11-30\non: yes\n1: 0o17\nt: 12:30\ntext: 'no'\nempty:\n",
        "one: &it {a: [1, .inf]}\ntwo: *it\nthree:\n  <<: *it\n  b: ${one.a}\n",
        "- [x, 'é \\u00e9']\n- |\n  two\n  lines\n- ???\n",
    ],
)
def test_yaml_is_read_as_omegaconf_reads_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text, encoding="utf-8")
    assert read_yaml(file) == OmegaConf.to_container(OmegaConf.create(text))


def test_aliases_share_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one: &it {a: [1]}\ntwo: *it\n")
    tree = read_yaml(file)
    tree["one"]["a"].append(2)
    assert tree["two"] == {"a": [1]}


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2\n", "? [1, 2]\n: 3\n", "a: !!set {b}\n", "a: ${b\n", "a: !!python/name:os.x\n",
     "a: &x [*x]\n", "a: b: c\n"],
)  # fmt: skip
def test_what_omegaconf_cannot_hold_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ComityError, match=r"a\.yaml is not valid YAML"):
        read_yaml(file)


def test_a_config_that_is_changed_does_not_change_the_next() -> None:
    first = compose("demo")
    was = dataclasses.asdict(first)
    compose("demo", ["game=stag_hunt", "game.noise=0.5", "model.name=x"])
    first.game["name"], first.model.name = "other", "other"
    assert dataclasses.asdict(compose("demo")) == was


def test_a_package_that_is_installed_later_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    os.utime(tmp_path, (1, 1))
    assert not list(installed_parts("comity.things"))
    folder = tmp_path / "mine-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[comity.things]\nshared = mine:Shared\n")
    assert [point.name for point in installed_parts("comity.things")] == ["shared"]


@pytest.mark.parametrize(
    ("primary", "overrides"),
    [
        ("config", ["experiment=demo", "game=stag_hunt", "~prompt.goal", "++game.noise=0.5"]),
        ("config", ["experiment=moral/game-then-deontological-vs-random", "seed=3"]),
        ("config", ["experiment=robust/tas_rps_vanilla_ad_align", "optimizer=adam"]),
        ("population", ["runs=2"]),
    ],
)
def test_what_is_composed_without_hydras_settings_is_hydras_composition(
    primary: str, overrides: list[str]
) -> None:
    register_schema()
    with beside_hydra():
        hydra = new_hydra(None)
        wanted = hydra.compose_config(
            primary, overrides, RunMode.RUN, with_log_configuration=False, from_shell=False
        )
    del wanted.hydra
    # The second time the options are remembered, and nothing else.
    for values in ([], ["++game.noise=0.1"], []):
        found = compose_ours(primary, [*overrides, *values])
        assert OmegaConf.is_struct(found) and (found == wanted) == (not values)
        OmegaConf.update(found, "name", "changed", force_add=True)
    assert OmegaConf.to_yaml(compose_ours(primary, overrides)) == OmegaConf.to_yaml(wanted)


@pytest.mark.parametrize("name", ["demo", "moral/game-then-deontological-vs-random"])
def test_a_config_is_written_as_omegaconf_writes_it(name: str, tmp_path: Path) -> None:
    awkward = ["'yes'", "'1e-5'", "é: 'ü'\\n\\n# x", "1", "null", "'~'", "- a", "' x '"]
    for number, goal in enumerate(awkward):
        config = compose(name, [f"seed={number}"])
        config.prompt["goal"] = goal
        config.model.name, config.output = goal, f"{goal * 30}"
        assert to_yaml(config) == OmegaConf.to_yaml(OmegaConf.structured(config))
        # With escapes, libyaml breaks long lines at other places.
        config.output = f"{goal}/\t{goal * 30}"
        texts, files = [to_yaml(config), OmegaConf.to_yaml(OmegaConf.structured(config))], []
        for text in texts:
            (tmp_path / "config.yaml").write_text(text)
            files.append(read_yaml(tmp_path / "config.yaml"))
        assert files[0] == files[1] and files[0]["output"] == config.output
    config.output = "runs"
    # References are OmegaConf's to write.
    config.model.name = "${seed}"
    assert to_yaml(config) == OmegaConf.to_yaml(OmegaConf.structured(config))


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 50_000, "- " * 50_000, "? " * 20_000])
def test_deep_nesting_ends_in_one_line(text: str, tmp_path: Path) -> None:
    """The stack of a parser in C overflows before Python notices."""
    file = tmp_path / "deep.yaml"
    file.write_text(text)
    with pytest.raises(ComityError, match="nested in more than 100 levels"):
        read_yaml(file)
    file.write_text("a: " + "[" * 98 + "]" * 98)
    assert str(read_yaml(file)["a"]) == "[" * 98 + "]" * 98
