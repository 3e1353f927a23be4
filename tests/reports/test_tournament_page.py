"""Pages of tournaments and exploit runs as files: what is in them, and what they refuse."""

import copy
import json
import re
import types
import typing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from comity.errors import ComityError
from comity.reports.tournament import exploit_page, looks, summary_format, tournament_page
from comity.reports.tournament.exploit_page import write_exploit_page
from comity.reports.tournament.packing import Names, pack_transcripts, short
from comity.reports.tournament.tournament_page import write_tournament_page
from tests.reports import synthetic_tournament as synthetic

HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 2'> & \u2028 {{ 7 * 7 }} {% raw %}",
    '" onmouseover="window.hacked = 3',
    "\u202e\u0000 \U0001f608 我 \ud800",
]
VOID = {"meta", "link", "wbr", "br", "input"}


class Parsed(HTMLParser):
    """Checks that every element is closed in turn; keeps ids, texts, links and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.handlers: list[str] = []
        self.defined: set[str] = set()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.ids += [value or ""] * (name == "id")
            self.links += [value or ""] * (name == "href")
            self.sources += [value or ""] * (name in ("src", "srcset", "action"))
            self.handlers += [name] * name.startswith("on")
            if name == "data-define":
                self.defined.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


def parsed(path: Path) -> Parsed:
    found = Parsed(path.read_text(encoding="utf-8"))
    assert len(set(found.ids)) == len(found.ids), "an id is there once"
    assert found.sources == [] and found.handlers == []
    inner = {link[1:] for link in found.links if link.startswith("#")}
    assert inner <= set(found.ids), "every link leads somewhere"
    assert found.defined <= set(found.ids), "every term has its definition"
    assert all(link.startswith(("#", "data:")) for link in found.links)
    return found


def embedded(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', text)
    return json.loads(data)


@pytest.mark.parametrize("parts", [True, False], ids=["whole", "bare"])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_page_has_all_that_its_summary_has(tmp_path: Path, count: int, parts: bool) -> None:
    summary = synthetic.tournament(count, parts=parts)
    path = write_tournament_page(summary, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    page = parsed(path)
    for player in summary["players"]:
        assert player["name"] in page.text
    for metric in summary["metrics"].values():
        assert all(metric[part] in page.text for part in ("label", "definition", "formula"))
    assert summary["command"] in page.text and "version = {0.9.0}" in page.text
    for part, there in (
        ("metagame", parts),
        ("references", parts),
        ("comparisons", bool(summary["comparisons"])),
        ("answers", bool(summary["usage"])),
        ("transcripts", True),
    ):
        assert (part in page.ids) == there, part
    assert ("2 transport failure" in page.text) == parts


def test_the_embedded_numbers_are_those_of_the_summary(tmp_path: Path) -> None:
    summary = synthetic.tournament(5)
    data = embedded(write_tournament_page(summary, tmp_path))
    names = [player["name"] for player in data["players"]]
    assert names == [player["name"] for player in summary["players"]]
    for subset, given in (("all", summary), ("clean", summary["clean"])):
        packed = data["subsets"][subset]
        assert len(packed["pairs"]) == len(given["pairs"]) == 25
        for (row, column, matches, identical, estimates), pair in zip(
            packed["pairs"], given["pairs"], strict=True
        ):
            assert (names[row], names[column]) == (pair["row"], pair["column"])
            assert (matches, bool(identical)) == (pair["matches"], pair["identical"])
            for metric, found in zip(data["metrics"], estimates, strict=True):
                expected = pair["metrics"].get(metric["name"])
                if expected is None:
                    assert found == 0
                    continue
                for value, key in zip(found, ("mean", "low", "high"), strict=False):
                    known = expected[key]
                    assert value == (known if known is None else pytest.approx(known, rel=1e-7))
                assert (found[3], data["notes"][found[4]]) == (expected["n"], expected["note"])
        for (place, rank, _), agent in zip(packed["agents"], given["agents"], strict=True):
            assert (names[place], rank) == (agent["name"], agent["rank"])


def test_packed_transcripts_say_what_was_played() -> None:
    summary = synthetic.tournament(8)
    packed = pack_transcripts(summary["transcripts"], Names(summary["players"]))
    names = [player["name"] for player in summary["players"]]
    assert packed["given"] == len(packed["matches"]) == 128
    texts = {}
    before = ""
    coded = packed["texts"]
    for place, shared, rest in zip(coded["order"], coded["shared"], coded["rest"], strict=True):
        before = before[:shared] + rest
        texts[place] = before
    for match, one in zip(packed["matches"], summary["transcripts"], strict=True):
        assert (names[match["row"]], names[match["column"]]) == (one["row"], one["column"])
        assert match["seed"] == str(one["seed"]), "all of its digits"
        for i, (outcome, played) in enumerate(zip(match["rounds"], one["rounds"], strict=True)):
            moves, payoffs = packed["outcomes"][outcome]
            assert [packed["moves"][move] for move in moves] == played["moves"]
            assert list(payoffs) == played["payoffs"]
            said = match.get("messages", {}).get(str(i), [])
            assert [[seat, texts[text]] for seat, text in said] == played["messages"]


def test_where_not_all_transcripts_fit_every_pair_keeps_some() -> None:
    summary = synthetic.tournament(6, kept=5)
    names = Names(summary["players"])
    whole = pack_transcripts(summary["transcripts"], names)
    size = sum(len(json.dumps(match)) for match in whole["matches"])
    some = pack_transcripts(summary["transcripts"], names, budget=size // 2)
    assert some["given"] == 180 and 36 <= len(some["matches"]) < 120
    pairs = {(match["row"], match["column"]) for match in some["matches"]}
    assert len(pairs) == 36


def test_rounds_without_messages_and_moves_of_any_kind() -> None:
    players: Any = [{"name": "a"}, {"name": "b"}]
    rounds = [
        {"moves": [None, {"hats": 3, "balls": 1}], "payoffs": [0.0, float("nan")]},
        {"moves": [7, [1, 2], True], "payoffs": [1.0, 2.5, 3.0]},
    ]
    one: Any = {"row": "a", "column": "b", "seed": 1, "rounds": rounds}
    packed = pack_transcripts([one], Names(players))
    seen = [[packed["moves"][m] for m in packed["outcomes"][i][0]] for i in range(2)]
    assert seen == [["", "hats 3, balls 1"], ["7", "1 2", "yes"]]
    assert packed["outcomes"][0][1] == (0, None)


def test_equal_summaries_give_equal_bytes(tmp_path: Path) -> None:
    one = write_tournament_page(synthetic.tournament(4), tmp_path / "one").read_bytes()
    other = write_tournament_page(synthetic.tournament(4), tmp_path / "other").read_bytes()
    assert one == other
    again = write_tournament_page(synthetic.tournament(3), tmp_path / "one").read_bytes()
    assert again != one, "a page takes the place of an older one"
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["report.html"]
    one = write_exploit_page(synthetic.exploit(), tmp_path / "one").read_bytes()
    assert one == write_exploit_page(synthetic.exploit(), tmp_path / "x").read_bytes()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_everywhere(tmp_path: Path, text: str) -> None:
    """In names, descriptions, settings, labels, notes, reasons, verdicts, moves and messages."""
    summary = hostile(text)
    page = parsed(write_tournament_page(summary, tmp_path))
    usual = parsed(write_tournament_page(synthetic.tournament(4), tmp_path))
    assert set(page.tags) == set(usual.tags)
    for tag in ("script", "section", "table", "tr", "td", "th", "a", "button", "details"):
        assert page.tags.count(tag) == usual.tags.count(tag), tag
    attack = synthetic.exploit()
    for key in ("title", "verdict"):
        attack[key] = text
    attack["victim"]["name"] = text
    for one in attack["transcripts"]:
        one["column"] = text
    assert parsed(write_exploit_page(attack, tmp_path)).tags.count("script") == 2


def hostile(text: str) -> Any:
    """A tournament whose every text is, or begins with, a hostile one."""
    called = {name: f"{text}{i}" for i, name in enumerate(synthetic.CLASSIC)}
    summary = synthetic.tournament(4, called=called, text=text)

    def infect(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: infect(one) for key, one in value.items()}
        if isinstance(value, list):
            return [infect(one) for one in value]
        return f"{text}: {value}" if isinstance(value, str) else value

    for key in ("title", "game", "version", "created", "missing_reasons"):
        summary[key] = infect(summary[key])
    for player in summary["players"]:
        player["description"], player["details"] = text, {text: text}
    summary["metrics"] = {
        name: {**infect(metric), "better": metric["better"]}
        for name, metric in copy.deepcopy(summary["metrics"]).items()
    }
    summary["missing_reasons"] = {text: 3}
    for one in summary["comparisons"]:
        one["verdict"] = text
    summary["metagame"]["elo"]["warning"] = text
    for pair in summary["pairs"]:
        for e in pair["metrics"].values():
            e["note"] = text
    for one in summary["transcripts"][:3]:
        one["rounds"][0]["moves"] = [text, text]
        one["rounds"][0]["messages"] = [[0, text], [1, text]]
    return summary


@pytest.mark.parametrize("parts", [True, False], ids=["whole", "bare"])
def test_the_page_of_an_exploit_run(tmp_path: Path, parts: bool) -> None:
    summary = synthetic.exploit(parts)
    path = write_exploit_page(summary, tmp_path)
    page = parsed(path)
    for text in (summary["verdict"], summary["victim"]["name"], summary["responder"]["name"]):
        assert text in page.text
    squeezed = re.sub(r"\s+", "", page.text)
    assert ("Shareoftheexactbestresponse96%93to100%" in squeezed) == parts
    assert ("Memory-one, enumerated." in page.text) == parts
    assert ("3 matches missing" in page.text) == parts == ("answers" in page.ids)
    assert ("Marginwithoutillegalanswers2.50" in squeezed) == parts
    data = embedded(path)
    assert [point["iteration"] for point in data["curve"]] == list(range(40 if parts else 0))
    assert data["exact"] == (3.68 if parts else None)


def test_gains_are_differences_of_the_payoffs() -> None:
    summary = synthetic.exploit()
    rows = {row["term"]: row["estimate"] for row in exploit_page.gains(summary)}
    assert rows["beyond-fair"]["mean"] == pytest.approx(3.55 - 3.0)
    assert rows["beyond-fair"]["low"] == pytest.approx(3.43 - 3.0), "a constant moves the interval"
    assert rows["beyond-scripted"]["mean"] == pytest.approx(3.55 - 3.4)
    assert rows["cost"]["mean"] == pytest.approx(2.7 - 0.65)
    assert rows["cost"]["low"] is None and rows["beyond-scripted"]["high"] is None
    assert rows["margin"] == summary["margin"]
    summary["victim_self_play"] = synthetic.estimate([])
    rows = {row["term"]: row["estimate"] for row in exploit_page.gains(summary)}
    assert rows["cost"]["mean"] is None, "nothing is made up"


def test_a_summary_of_another_kind_is_refused(tmp_path: Path) -> None:
    for write, summary in (
        (write_tournament_page, synthetic.exploit()),
        (write_exploit_page, synthetic.tournament(2)),
        (write_tournament_page, {**synthetic.tournament(2), "schema": 2}),
    ):
        with pytest.raises(ComityError):
            write(summary, tmp_path)
    stranger = synthetic.tournament(2)
    stranger["pairs"][0]["row"] = "nobody"
    with pytest.raises(ComityError, match="nobody"):
        write_tournament_page(stranger, tmp_path)
    twins = synthetic.tournament(2)
    twins["players"][1]["name"] = twins["players"][0]["name"]
    with pytest.raises(ComityError, match="two players called"):
        write_tournament_page(twins, tmp_path)
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_numbers_that_json_does_not_have_become_none(tmp_path: Path) -> None:
    assert [short(value) for value in (float("nan"), float("inf"), None)] == [None] * 3
    assert short(1 / 3) == 0.33333333 and short(2.0) == 2 and isinstance(short(2.0), int)
    summary = synthetic.tournament(3)
    summary["pairs"][0]["metrics"]["payoff"]["mean"] = float("nan")
    data = embedded(write_tournament_page(summary, tmp_path))
    assert data["subsets"]["all"]["pairs"][0][4][0][0] is None


def scale(name: str, unit: str, bounds: Any, values: Any) -> Any:
    metric: Any = {"label": name, "unit": unit, "bounds": bounds}
    found = looks.look(name, metric, values)
    return found["scale"], found["low"], found["high"]


def test_scales_of_colors() -> None:
    assert scale("payoff", "payoff per round", [0, 5], [1, 2]) == ("s", 0, 5)
    assert scale("payoff", "points", [None, None], [1, 4]) == ("s", 1, 4)
    assert scale("gap", "points", [0, None], [1, 4]) == ("s", 0, 4)
    assert scale("margin", "points", [-5, 5], [-1, 2]) == ("d", -2, 2), "as far below 0 as above"
    assert scale("margin", "points", [None, None], [-3, 2]) == ("d", -3, 3)
    assert scale("payoff", "points", [-3, 0], [-1, -2]) == ("s", -3, 0)
    assert scale("cooperation", "share", [0, 1], [0.5]) == ("d", 0, 1), "as on other pages"
    assert scale("deal_rate", "share", [0, 1], [0.5]) == ("s", 0, 1)
    assert scale("margin", "points", [-5, 5], []) == ("d", -1.0, 1.0)
    metric: Any = {"label": "x", "unit": "points", "bounds": [0, 300]}
    assert looks.show(123.456, looks.look("x", metric, [])) == "123.5"
    assert looks.show(-0.0001, {"percent": False, "digits": 2}) == "0.00"


def conforms(value: Any, kind: Any, where: str = "summary") -> None:
    """Fails where a value is not as the format says."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind):
        assert isinstance(value, dict), where
        hints = typing.get_type_hints(kind)
        assert set(value) <= set(hints), where
        assert set(value) >= kind.__required_keys__, where
        for key, one in value.items():
            conforms(one, hints[key], f"{where}.{key}")
    elif origin is typing.NotRequired:
        conforms(value, inside[0], where)
    elif origin is list:
        assert isinstance(value, list), where
        for one in value:
            conforms(one, inside[0], where)
    elif origin is tuple:
        for one, part in zip(value, inside, strict=True):
            conforms(one, part, where)
    elif origin is dict:
        assert isinstance(value, dict), where
        for key, one in value.items():
            conforms(key, inside[0], where)
            conforms(one, inside[1], where)
    elif origin in (types.UnionType, typing.Union):
        fitting = []
        for part in inside:
            try:
                conforms(value, part, where)
                fitting.append(part)
            except AssertionError:
                continue
        assert fitting, where
    elif origin is typing.Literal:
        assert value in inside, where
    elif kind is float:
        assert isinstance(value, int | float) and not isinstance(value, bool), where
    elif kind is not Any:
        assert isinstance(value, kind), f"{where}: {value!r} is no {kind}"


@pytest.mark.parametrize("parts", [True, False], ids=["whole", "bare"])
def test_the_summaries_of_these_tests_have_the_documented_format(parts: bool) -> None:
    conforms(synthetic.tournament(3, parts=parts), summary_format.TournamentSummary)
    conforms(synthetic.exploit(parts), summary_format.ExploitSummary)
    with pytest.raises(AssertionError):
        conforms({**synthetic.tournament(2), "more": 1}, summary_format.TournamentSummary)


def test_empty_parts_may_be_none_or_missing(tmp_path: Path) -> None:
    bare = synthetic.tournament(2, parts=False)
    usual = tournament_page.render(bare)
    assert tournament_page.render({**bare, "metagame": None, "references": None}) == usual
    del bare["outcomes"], bare["usage"]
    assert tournament_page.render(bare) == usual
    for key in ("equilibria", "replicator", "alpha_rank", "deviation_ratings", "elo", "moran"):
        summary = synthetic.tournament(3)
        del summary["metagame"][key]
        (tmp_path / "report.html").write_text(tournament_page.render(summary))
        parsed(tmp_path / "report.html")


def test_who_did_not_meet_everybody_is_told(tmp_path: Path) -> None:
    summary = synthetic.tournament(3)
    assert "Not comparable" not in tournament_page.render(summary)
    names = [player["name"] for player in summary["players"]]
    for agent in summary["agents"]:
        agent["unmet"] = [names[0], names[1]] if agent["name"] == names[0] else []
    text = tournament_page.render(summary)
    assert "Not comparable" in text and "1 of 3 agents did not meet everybody" in text
    assert "without itself" in " ".join(text.split())
