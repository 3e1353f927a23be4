"""No two draws of a run share a stream, whatever answers and learns in it."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import comity
from comity.commands.run import run as run_experiment
from comity.games.randomness import DRAWN_ONCE, STREAMS, Stream, generator, recorded_streams
from tests.train.small import short_rules, small

SPLIT = (
    *("game=trust_and_split_rps", "prompt=negotiation", "game.length.rounds=1"),
    *("answer.message_tokens=4", "iterations=2"),
)
TRIED = ("answer=attempts", "answer.free_attempts=2")
HALF = "exploration=[{text:greedy,probability:0.5}]"
RUNS: dict[str, tuple[str, ...]] = {
    "scored": (),
    "one-shot questions, shuffled": (
        "prompt=structured",
        "prompt.labels=random",
        "prompt.layout=random",
        "prompt.swap_labels=random",
        "game.initial_state=uniform",
        "game.noise=0.1",
        "seat_assignment=random",
    ),
    "free": ("answer=free", "prompt=memory_one"),
    "attempts": TRIED,
    "attempts and complaints": (*TRIED, "answer.retry_feedback=append"),
    "thinking": ("answer.thinking=6",),
    "thinking and attempts": (*TRIED, "answer.thinking=6"),
    "grammar": SPLIT,
    "grammar after attempts": (*SPLIT, *TRIED),
    "grammar after thoughts": (*SPLIT, "answer.thinking=6"),
    "alternatives": (
        *TRIED,
        "algorithm.estimator=branches",
        "algorithm.alternatives=2",
        "iterations=2",
    ),
    "alternatives to talk": (
        *SPLIT,
        "algorithm=advantage_alignment",
        "algorithm.branched=true",
        "algorithm.alternatives=2",
        "algorithm.reward_scale=10",
    ),
    "alternatives against a strategy of the axelrod package": (
        "seats=[learner,axelrod:Random]",
        *("algorithm.estimator=branches", "algorithm.alternatives=2", "iterations=2"),
    ),
    "exploration": (HALF, *TRIED),
    "the past": (
        *("opponent_pool=buffer", "opponent_pool.every=1", "matches=4", "group_size=2"),
        *(
            "opponent_pool.scripted=[{name: random, p: 0.3}]",
            "opponent_pool.scripted_probability=0.3",
            "opponent_pool.scope=match",
        ),
    ),
    "scripts": ("seats=[learner,{name: random, p: 0.3}]", "game/length=geometric"),
    "a length for the batch": ("game/length=geometric", "game.length.draw=batch"),
    "payoffs for each match": ("game=random_dilemma",),
    "follow-ups": ("record.followups=2", "record.followup_tokens=2"),
    "two learners, PPO": (
        *("algorithm=ppo", "seats=[learner:a,learner:b]", "algorithm.minibatches=2"),
        "adapter.dropout=0.1",
    ),
    "a critic": ("algorithm.estimator=gae",),
    "a study": (
        "+study.seeds=[0]",
        "+study.arms.one=[]",
        "+crossplay.players=[one,base,{name: random, p: 0.3}]",
        "+crossplay.matches=4",
    ),
}


def used(output: Path, *changes: str) -> list[Stream]:
    with recorded_streams() as streams:
        run_experiment(small(output, "iterations=3", *changes))
    return streams


def twice(streams: list[Stream]) -> list[Stream]:
    """Streams that two draws share: drawn again, or read by different functions."""
    counts = Counter(one.identity for one in streams)
    readers = defaultdict(set)
    for one in streams:
        readers[one.identity].add(one.where)
    return [
        one
        for one in streams
        if (one.purpose in DRAWN_ONCE and counts[one.identity] > 1)
        or len(readers[one.identity]) > 1
    ]


@pytest.mark.parametrize("name", RUNS)
def test_no_two_draws_share_a_stream(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_rules(monkeypatch)
    streams = used(tmp_path, *RUNS[name])
    assert not [str(one) for one in twice(streams)]
    assert all(one.purpose for one in streams), "every stream says what it is for"
    assert {"answer", "torch", "environment", "adapter"} <= {one.purpose for one in streams}
    assert len({one.identity for one in streams if one.purpose == "answer"}) >= 8


def test_minibatches_have_an_order_of_their_own_for_every_seed_and_learner(tmp_path: Path) -> None:
    orders = [
        one.identity
        for seed in (0, 1)
        for one in used(tmp_path, *RUNS["two learners, PPO"], f"seed={seed}")
        if one.purpose == "minibatches"
    ]
    # Two seeds, two learners, three updates of four epochs, and the numbers they are named by.
    assert len(orders) == len(set(orders)) == 2 * 2 * (3 * 4 + 1)
    assert len({generator(*one).permutation(20).tobytes() for one in orders}) == len(orders)


def test_a_stream_says_what_it_is_for() -> None:
    assert set(STREAMS) > DRAWN_ONCE
    with recorded_streams() as streams:
        generator(0, 1, 2, "branch", 3, 0, 1, "answer", 0, 0, 0, 0)
        generator(0, "crossplay", "a|b|0", 1, "answer", 0, 0, 0, 0)
        generator(0, "crossplay", "environment", 0)
        generator(0, "no purpose")
    assert [one.purpose for one in streams] == ["answer", "answer", "environment", ""]
    assert str(streams[2]).startswith("0 crossplay environment 0 (tests.train.test_streams.")
    assert generator(1).random() == generator(1).random()
    assert len(streams) == 4, "nothing is noted afterwards"


def test_the_test_sees_a_stream_that_is_drawn_from_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comity.players.base import Request

    rng = Request.rng
    monkeypatch.setattr(Request, "rng", lambda self, attempt=0, part="": rng(self, 0, part))
    assert twice(used(tmp_path, *TRIED))


def test_nothing_random_is_made_elsewhere() -> None:
    """Every generator comes from `comity.games.randomness`, but for those named here."""
    allowed = {
        "games/randomness.py",
        # The published protocol's own generators, and resampling of numbers that are there.
        "evaluation/moral/published_protocol.py",
        "evaluation/statistics.py",
        # Seeds that were drawn from a stream.
        "engines/local/adapters/lora.py",
        "learning/value_head.py",
        "populations/agents/language_model_training.py",
        "experiments/resume.py",
        # Tokens that a model is tried with when it is loaded, the same for all.
        "engines/local/model_check.py",
        "engines/vllm/check.py",
        # Keeps and restores the global generators, which nothing draws from but torch's dropout.
        "learning/state/exact_state.py",
    }
    root = Path(comity.__file__).parent
    made = re.compile(
        r"default_rng\(|manual_seed\(|np\.random\.[a-z]|\brandom\.[a-z]+\(|RandomState"
    )
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if made.search(path.read_text(encoding="utf-8"))
    }
    assert found <= allowed
