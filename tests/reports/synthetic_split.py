"""Made-up runs and studies of split games with the real files, for the tests of the reports.

Learners become greedier from iteration to iteration. Messages may be hostile.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from comity.games.base import ILLEGAL, Reply, Turn
from comity.games.lengths import Fixed
from comity.games.split.game import Split
from comity.games.split.state import Instance
from comity.rollout.record_files import conversation_table, decision_table, write_table
from comity.rollout.records import Conversation, Decision, Piece
from tests.evaluation.bargaining import Agent, Listed, cooperator, greedy, play
from tests.reports.synthetic import HOSTILE, ids_of

HANDS = (Instance((10,), ((10.0,), (1.0,))), Instance((10,), ((1.0,), (10.0,))))
NASTY = (
    *HOSTILE,
    "<b>bold</b> & <script>window.hacked = 3</script>",
    "null \x00 bell \x07 escape \x1b[31m delete \x7f next line \x85 right to left \u202e tail",
    "x" * 100_000,
)
REFERENCES = {
    "cooperators": {"points": 50.0, "e1": 1.0, "e2": 1.0},
    "greedy": {"points": 27.5, "e1": 0.55, "e2": 0.55},
    "greedy_vs_cooperator": {"points": [52.5, 25.0], "e1": 0.775, "e2": 0.775},
}
WORDS = (
    "I have rock. I would like most of the coins this time, you can have them next round.",
    "My hand is paper, so coins are worth 10 to me.\nShall I take all of them?",
    "Fine with me.",
    "",
)


def game(messages: int = 1, rounds: int = 3, **parameters: Any) -> Split:
    return Split(
        "Trust and Split",
        Listed(HANDS),
        messages=messages,
        message_limit=200_000,
        length=Fixed(rounds),
        **parameters,
    )


def learner(random: np.random.Generator, greed: float, words: Sequence[str]) -> Agent:
    """Claims all with probability `greed`, else what it values more; now and then illegally."""

    def reply(turn: Turn) -> Reply:
        if random.random() < 0.05:
            return ILLEGAL
        talks = {"message": 1.0, "talk": 0.7, "claim": 0.2 if spent(turn) else 0.0}
        if random.random() < talks.get(turn.kind, 0.0):
            return words[int(random.integers(len(words)))]
        return (greedy if random.random() < greed else cooperator)(turn)

    return reply


def spent(turn: Turn) -> bool:
    """Two messages are written, where a talk of at most two may be ended."""
    said = [seat for seat, _ in turn.observation.messages]  # type: ignore[attr-defined]
    return said.count(turn.seat) == 2


def talk(decisions: list[Decision], number: int) -> list[Conversation]:
    """Conversations of a match's language models; their decisions learn where they stand."""
    found = []
    for seat in sorted({d.seat for d in decisions if d.controller != "scripted"}):
        one = Conversation(
            decisions[0].iteration, number + len(found), decisions[0].match, seat, "main", []
        )
        for d in (d for d in decisions if d.seat == seat):
            what = "speak" if d.kind == "message" else "claim"
            told = f"You are in round {d.round + 1}. Your turn to {what}."
            text = f"<message>{d.text}</message>" if d.kind == "message" and d.move == 0 else d.text
            for kind, part in (("prompt", told), ("answer", text)):
                start = len(one.ids)
                one.ids += ids_of(part)
                one.pieces.append(Piece(kind, start, len(one.ids), part))
            d.text, d.conversation, d.start = text, one.conversation, one.pieces[-1].start
            d.tokens = one.ids[d.start :]
            d.logprob = -0.2 * len(d.tokens)
        found.append(one)
    return found


def run(
    folder: Path,
    seed: int = 0,
    iterations: int = 4,
    matches: int = 6,
    words: Sequence[str] = WORDS,
    name: str = "tas_rps",
    frozen: bool = True,
    **rules: Any,
) -> Path:
    """Writes a run folder: learners meet themselves and, in half of the matches, a past one."""
    random = np.random.default_rng([seed, *name.encode()])
    split = game(**rules)
    config = {
        "name": name,
        "seed": seed,
        "iterations": iterations,
        "matches": matches,
        "model": {"name": "smollm2-135m", "dtype": "auto"},
        "game": {
            "name": "trust_and_split_rps",
            "length": {"name": "fixed", "rounds": 3},
            "payment": split.payment,
        },
        "seats": ["learner", "learner"],
        "reward": {"name": "own"},
        "algorithm": {"name": "reinforce", "discount": 0.96},
    }
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    reference_policies = {"items": list(split.items), "expected_payoffs": REFERENCES}
    (folder / "reference_policies.json").write_text(json.dumps(reference_policies))
    lines = []
    for iteration in range(iterations):
        greed = iteration / max(iterations - 1, 1)
        decisions: list[Decision] = []
        talks: list[Conversation] = []
        for match in range(matches):
            agents = [learner(random, greed, words) for _ in range(2)]
            past = 1 if frozen and match % 2 else None
            if past is not None:
                agents[past] = learner(random, greed / 2, words)
            found = play(split, agents, seed=match, match=match, iteration=iteration)
            for d in found:
                if d.seat == past:
                    d.controller, d.trained, d.player = "past", False, "past"
                d.reward = d.return_ = d.payoff
                d.advantage = d.payoff - 20.0
                if d.kind == "claim" and random.random() < 0.1:
                    d.attempts, d.constrained = 2, True
            talks += talk(found, len(talks))
            decisions += found
        file = f"{iteration:06d}.parquet"
        for kind, table in (
            ("decisions", decision_table(decisions)),
            ("conversations", conversation_table(talks)),
        ):
            (folder / kind).mkdir(exist_ok=True)
            write_table(folder / kind / file, table)
        row = {"iteration": iteration, "reward": 25.0, "entropy": 9.0 - greed, "kl": 0.01 * greed}
        lines.append(json.dumps({**row, "gradient_norm": 1.0, "seconds": {"total": 60.0}}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def study(folder: Path, seeds: Sequence[int] = (0, 1), **rules: Any) -> Path:
    """Two arms and a cross-play with scripted players."""
    arms: dict[str, list[str]] = {"naive": [], "sum": []}
    for arm, paths in arms.items():
        for seed in seeds:
            paths.append(f"{arm}/seed-{seed}")
            run(folder / paths[-1], seed, name=arm, frozen=False, **rules)
    (folder / "study.json").write_text(json.dumps({"arms": arms}))
    (folder / "config.yaml").write_text("name: splits\n")
    random = np.random.default_rng(5)
    players = {"naive": 0.9, "sum": 0.1, "cooperator": cooperator, "greedy": greedy}
    decisions: list[Decision] = []
    pairings: list[str] = []
    names = list(players)
    number = 0
    for seed in seeds:
        for i, row in enumerate(names):
            for column in names[i:]:
                if isinstance(players[row], float) or seed == seeds[0]:
                    for k in range(4):
                        pair = (row, column) if k % 2 == 0 else (column, row)
                        agents = [
                            learner(random, p, WORDS) if isinstance(p, float) else p
                            for p in (players[name] for name in pair)
                        ]
                        found = play(game(**rules), agents, seed=k, match=number, trained=False)
                        for d in found:
                            d.player = pair[d.seat]
                            scripted = d.player in ("cooperator", "greedy")
                            d.controller = "scripted" if scripted else "frozen"
                        decisions += found
                        pairings += [f"{row}|{column}|{seed}"] * len(found)
                        number += 1
    (folder / "crossplay").mkdir()
    write_table(
        folder / "crossplay" / "decisions.parquet",
        decision_table([replace(d, conversation=-1) for d in decisions], {"pairing": pairings}),
    )
    return folder
