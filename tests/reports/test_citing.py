"""Provenance, the methods sentence, BibTeX, and the buttons that copy them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from comity.reports.build import build
from comity.reports.page import citation as citing
from comity.reports.page.citation import bibtex
from comity.reports.page.generalization_page import render
from tests.evaluation.test_generalization import found, measured
from tests.reports import synthetic
from tests.reports.test_page import Visit, browser, needs_browser

__all__ = ["browser", "found", "measured"]

VERSIONS = {
    "comity": "0.1.0",
    "python": "3.11.9",
    "revision": {"commit": "0123456789abcdef", "dirty": False},
    "command": "comity train demo 'study.seeds=[0,1]'",
    "models": {"smollm2-135m": {"dtype": "bfloat16", "device": "cuda:0", "weights": "sha256:1"}},
}


def known(folder: Path) -> Path:
    """A study whose folders say with what they were made."""
    study = synthetic.study(folder, hostile=False)
    for path in (study, *study.glob("*/seed-*")):
        (path / "versions.json").write_text(json.dumps(VERSIONS))
        config = yaml.safe_load((path / "config.yaml").read_text())
        config |= {"iterations": 4, "matches": 3, "adapter": {"rank": 16, "alpha": 32.0}}
        config |= {"optimizer": {"learning_rate": 5e-4}, "composition": {"name": "moral/study"}}
        (path / "config.yaml").write_text(yaml.safe_dump(config))
    return study


def test_the_summary_says_with_what_it_was_made(tmp_path: Path) -> None:
    page, numbers = build([known(tmp_path / "study")])
    summary = json.loads(numbers.read_text())
    made = summary["provenance"]
    assert (made["dtype"], made["device"]) == ("bfloat16", "cuda:0")
    assert made["command"] == VERSIONS["command"]
    assert made["config"]["name"] == "demo"
    assert made["versions"]["comity"] == "0.1.0" and "models" not in made["versions"]
    assert [(run["policy"], run["seed"], run["folder"]) for run in made["runs"]] == [
        ("own", 0, "own/seed-0"), ("own", 1, "own/seed-1"),
        ("utilitarian", 0, "utilitarian/seed-0"), ("utilitarian", 1, "utilitarian/seed-1"),
    ]  # fmt: skip
    assert {run["last_iteration"] for run in made["runs"]} == {3}
    assert "auto" not in re.search(r"<dt>Model</dt><dd>(.*?)</dd>", page.read_text())[1]  # type: ignore[index]


def test_the_methods_sentence(tmp_path: Path) -> None:
    summary = json.loads(build([known(tmp_path / "study")])[1].read_text())
    for part in (
        "2 policies (own, utilitarian)", "2 seeds each (0, 1)", "rank 16, alpha 32.0",
        "smollm2-135m", "bfloat16 on cuda:0", "Comity 0.1.0, commit 0123456789",
    ):  # fmt: skip
        assert part in summary["methods"]
    assert "None" not in build_single(tmp_path)["methods"]


def build_single(tmp_path: Path) -> Any:
    study = known(tmp_path / "other")
    return json.loads(build([study / "own" / "seed-0"])[1].read_text())


@pytest.mark.parametrize(
    ("config", "papers"),
    [
        ({"name": "ipd"}, []),
        ({"composition": {"name": "moral/study"}}, ["2410.01639"]),
        ({"composition": {"name": "moral/small/game"}, "algorithm": {"name": "ppo"}},
         ["2410.01639", "1707.06347"]),
        ({"composition": {"name": "robust/tas_vanilla_ad_align"},
          "algorithm": {"name": "advantage_alignment"}}, ["2511.19405", "2406.14662"]),
        ({"composition": {"name": "robust/small/ipd-study"},
          "study": {"arms": {"aa": ["algorithm=advantage_alignment"]}}},
         ["2511.19405", "2406.14662"]),
    ],
)  # fmt: skip
def test_bibtex_of_the_project_and_the_papers(config: dict[str, Any], papers: list[str]) -> None:
    text = bibtex(config, "0.1.0")
    entries = text.split("\n\n")
    assert entries[0].startswith("@software{comity,") and "version = {0.1.0}" in entries[0]
    assert [re.search(r"eprint = {(.*)}", entry)[1] for entry in entries[1:]] == papers  # type: ignore[index]
    assert all(entry.count("{") == entry.count("}") for entry in entries)


def test_the_project_is_cited_as_its_own_file_says() -> None:
    own = yaml.safe_load(Path("CITATION.cff").read_text())
    assert own["title"] in citing.PROJECT and own["license"] in citing.PROJECT
    assert own["authors"][0]["name"] in citing.PROJECT


@needs_browser
@pytest.mark.parametrize("is_allowed", [True, False])
def test_buttons_copy(browser: Any, tmp_path: Path, is_allowed: bool) -> None:
    page, numbers = build([known(tmp_path / "study")])
    summary = json.loads(numbers.read_text())
    context = browser.new_context(
        permissions=["clipboard-read", "clipboard-write"] if is_allowed else []
    )
    tab = context.new_page()
    if not is_allowed:
        tab.add_init_script("delete Navigator.prototype.clipboard")
    visit = Visit(tab, page.as_uri())
    tab.locator("#numbers summary").click()
    wanted = {
        "Copy the command": summary["provenance"]["command"],
        "Copy the sentence": summary["methods"],
        "Copy the BibTeX": summary["bibtex"],
    }
    for name, text in wanted.items():
        tab.get_by_role("button", name=name).click()
        tab.get_by_role("button", name="Copied").wait_for()
        if is_allowed:
            assert tab.evaluate("navigator.clipboard.readText()") == text
        tab.get_by_role("button", name=name).wait_for()
    settings = yaml.safe_load(tab.locator("#copied-settings").text_content())
    assert settings["name"] == "demo" and "composition" not in settings
    visit.check(page.as_uri())
    context.close()


def test_the_evaluation_says_it_too(found: dict[str, Any]) -> None:
    made = {
        "command": "comity evaluate generalization runs/x --quick",
        "versions": {"comity": "0.1.0"}, "dtype": "float32", "device": "cpu",
    }  # fmt: skip
    described = {"title": "t", "created": "now", "setting": {"episodes": 10}, **found}
    text = render({**described, "provenance": made, "extent": "quick"})
    for part in (made["command"], "float32 on cpu", "2410.01639", "a reduced set of questions"):
        assert part in text
    assert text.count("data-copies=") == 4
