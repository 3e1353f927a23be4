"""What playing computed is given back: before the next iteration plays, and part by part."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comity.commands.run import run
from comity.engines.local.kv_cache import DifferentiableCache, KVCache
from comity.engines.local.session import Session
from comity.players.language_model.session import LanguageModelSession
from comity.rollout import counterfactuals as branches
from comity.rollout.counterfactuals import counterfactual_returns
from comity.rollout.play import Match, play
from tests.train.small import small
from tests.worlds import dilemma, learner, play_matches, tiny_models

RUNS: dict[str, tuple[str, ...]] = {
    "growing conversations": (),
    "passes that are learned from": ("prompt=memory_one", "answer=free"),
    "PPO": ("prompt=memory_one", "algorithm=ppo"),
    "several epochs": ("prompt=memory_one", "algorithm=ppo", "algorithm.epochs=2"),
    "alternatives": ("algorithm.estimator=branches", "algorithm.alternatives=1"),
    "two learners": ("seats=[learner:a,learner:b]",),
    "nothing to learn from": ("answer=free", "answer.train_illegal=false", "prompt=memory_one"),
    "follow-ups": ("record.followups=2", "record.followup_tokens=2"),
    "a critic": ("algorithm.estimator=gae",),
    "a study": (
        *("+study.seeds=[0,1]", "+study.arms.one=[]", "+crossplay.players=[one,base]"),
        "+crossplay.matches=30",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_no_cache_of_an_earlier_iteration_lives_while_the_next_one_plays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of a cross-play's batches. Nothing waits for the garbage collector."""
    kept: list[weakref.ref[Any]] = []
    alive: list[int] = []
    begun: Callable[..., None] = Session.__init__

    def begin(self: Session, *arguments: Any, **keywords: Any) -> None:
        begun(self, *arguments, **keywords)
        alive.append(sum(one() is not None for one in kept))
        kept.append(weakref.ref(self._cache))

    detached: Callable[[DifferentiableCache], KVCache] = DifferentiableCache.detached

    def watched(self: DifferentiableCache) -> KVCache:
        made = detached(self)
        kept.append(weakref.ref(made))
        return made

    monkeypatch.setattr(Session, "__init__", begin)
    monkeypatch.setattr(DifferentiableCache, "detached", watched)
    gc.disable()
    try:
        run(small(tmp_path, *RUNS[name]))
    finally:
        gc.enable()
    assert len(alive) >= 4
    # A question after the match, and the match itself, are of one iteration.
    assert max(alive) <= (1 if name == "follow-ups" else 0)


def test_a_released_session_holds_no_memory() -> None:
    models = tiny_models()
    policy = learner(models)
    rollout = play_matches(dilemma(2), (policy, policy), 2)
    assert rollout.recording is not None
    assert rollout.recording.tokens == 0 and not rollout.recording.is_recording


@pytest.mark.parametrize("prompt", ["conversation", "memory_one"])
def test_alternatives_take_no_more_memory_than_one_part_of_them(
    prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tiny_models(prompt={"name": prompt, "labels": ["A", "B"]}, answer={"name": "free"})
    policy = learner(models)
    matches = [Match(m, m, m, (policy, policy), (0, 0, m)) for m in range(2)]
    sizes: dict[int, list[tuple[int, int, int]]] = {}
    returns = {}
    play_on = branches._play_on
    for together in (2, 1000):
        monkeypatch.setattr(branches, "BATCH_SIZE", together)
        sizes[together] = seen = []

        def noted(runner: Any, part: Any, *more: Any, seen: Any = seen) -> Any:
            result = play_on(runner, part, *more)
            table = runner.sessions[models]
            assert isinstance(table, LanguageModelSession)
            seen.append((table.session.tokens, len(table.transcripts), len(table._open)))
            return result

        monkeypatch.setattr(branches, "_play_on", noted)
        rollout = play(dilemma(3), matches, keep=True)
        assert rollout.runner is not None
        trunk = rollout.runner.sessions[models].position()  # type: ignore[attr-defined]
        returns[together] = counterfactual_returns(rollout.runner, lambda p: p.payoffs, 0.9, 6)
        sizes[together].insert(0, (*trunk[::-1], 0))
    (base, talks, _), *parts = sizes[2]
    (_, *whole) = sizes[1000]
    assert len(parts) == 36 and len(whole) == 1
    assert max(one[0] for one in parts) - base < (whole[0][0] - base) / 3
    assert max(one[1] for one in parts) - talks <= (whole[0][1] - talks) / 10
    assert max(one[2] for one in parts) <= 4 + 4
    assert returns[2] == pytest.approx(returns[1000], nan_ok=True)
