"""The longest conversation is known beforehand, and what a model cannot place is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from comity.config.compose import compose
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model
from comity.errors import ComityError, ComityWarning
from comity.experiments.build import Experiment
from comity.games import make_game
from comity.games.base import Game
from comity.players.language_model.context_length import check_context, longest_conversation
from comity.players.language_model.player import LanguageModelBackend
from tests.players.answer_models import Easy, Terse, split, told
from tests.tiny import make_tokenizer
from tests.worlds import dilemma, learner, play_matches, tiny_models

TALK = {"name": "constrained", "message_tokens": 9}
TRY = {"name": "attempts", "free_attempts": 3, "message_tokens": 9, "claim_tokens": 12}
GAMES = ("trust_and_split_rps", "trust_and_split", "split_no_talk", "ultimatum")


def longest(models: LanguageModelBackend, game: Game, matches: int = 3) -> int:
    """Tokens of the longest conversation that was played."""
    players = (learner(models), learner(models, None))
    rollout = play_matches(game, players, matches)
    return max(len(one.ids) for one in rollout.conversations)


@pytest.mark.parametrize("prompt", ["conversation", "memory_one", "structured"])
@pytest.mark.parametrize("rounds", [1, 30])
def test_scored_answers_reach_the_bound(prompt: str, rounds: int) -> None:
    models = tiny_models(prompt={"name": prompt})
    game = dilemma(rounds)
    found, bound = longest(models, game, 2), longest_conversation(models, game)
    assert found <= bound <= 1.05 * found + 4


@pytest.mark.parametrize("prompt", [{"name": "structured", "labels": "random"}, {}])
def test_what_is_drawn_for_a_match_may_be_longer_than_in_those_that_were_told(
    prompt: dict[str, Any],
) -> None:
    models = tiny_models(prompt=prompt or None)
    game = make_game({"name": "random_dilemma", "length": {"name": "fixed", "rounds": 1}})
    found, bound = longest(models, game, 150), longest_conversation(models, game)
    assert found <= bound <= 1.1 * found


@pytest.mark.parametrize(
    "answer",
    [
        {"name": "free", "max_tokens": 5},
        {"name": "attempts", "free_attempts": 3, "retry_feedback": "append"},
        {"name": "attempts", "free_attempts": 2, "retry_feedback": "append", "fallback": "illegal"},
        {"name": "constrained", "thinking": 12},
        {"name": "attempts", "thinking": 8, "free_attempts": 2},
    ],
)
@pytest.mark.parametrize("prompt", ["conversation", "memory_one"])
def test_free_answers_stay_below_it(prompt: str, answer: dict[str, Any]) -> None:
    models = tiny_models(prompt={"name": prompt}, answer=answer)
    for game in (dilemma(5), dilemma(5, illegal="zero_all")):
        found, bound = longest(models, game), longest_conversation(models, game)
        assert found <= bound <= 2 * found


TALKS = [TALK, {**TALK, "thinking": 12}, TRY, {**TRY, "retry_feedback": "append"}]


@pytest.mark.parametrize(
    ("name", "answer"),
    [*((GAMES[0], one) for one in TALKS), *zip(GAMES[1:], (TALKS[1], *TALKS[2:]), strict=True)],
)
def test_negotiations_stay_below_it(name: str, answer: dict[str, Any]) -> None:
    prompt = Easy if "attempts" in answer["name"] else Terse
    models = told(tiny_models(prompt={"name": "negotiation"}, answer=answer), prompt)
    game = split(name, 3)
    assert longest(models, game, 2) <= longest_conversation(models, game)


def test_every_round_of_the_longest_match_counts() -> None:
    models = tiny_models()
    law = {"name": "geometric", "continue_probability": 0.1, "cap": 90}
    game = make_game({"name": "prisoners_dilemma", "length": law})
    assert longest_conversation(models, game) >= longest_conversation(models, dilemma(89))


def positioned(folder: Path, architecture: str, most: int) -> str:
    """A tiny model that places so many tokens."""
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, OPTConfig

    tokenizer = make_tokenizer(chat=False)
    common: dict[str, Any] = {"vocab_size": len(tokenizer), "bos_token_id": None}
    wide = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config: Any = {
        "gpt2": lambda: GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=most, **common),
        "opt": lambda: OPTConfig(
            ffn_dim=32, word_embed_proj_dim=32, max_position_embeddings=most, **wide, **common
        ),
        "llama": lambda: LlamaConfig(
            intermediate_size=32, max_position_embeddings=most, **wide, **common
        ),
    }[architecture]()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("architecture", "learned"), [("gpt2", True), ("opt", True), ("llama", False)]
)
def test_whether_the_limit_can_be_passed(architecture: str, learned: bool, tmp_path: Path) -> None:
    model = load_model(positioned(tmp_path, architecture, 64), "float32", "cpu")
    from comity.engines.local.context_limit import context_limit

    assert (context_limit(model).max_tokens, context_limit(model).is_hard) == (64, learned)


def test_the_places_of_pictures_are_not_those_of_text() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from comity.engines.local.context_limit import context_limit

    wide = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    text = {**wide, **heads, "vocab_size": 64, "max_position_embeddings": 512}
    vision = {**wide, "num_attention_heads": 1, "image_size": 28, "patch_size": 14}
    both = AutoConfig.for_model(
        "gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=1
    )
    found = context_limit(AutoModelForCausalLM.from_config(both))
    assert (found.max_tokens, found.is_hard) == (512, False)


def small(folder: str, rounds: int, *more: str) -> Any:
    given = [f"model.name={folder}", f"game.length.rounds={rounds}", "game/length=fixed", *more]
    return compose("smoke", ["model.dtype=float32", "matches=2", "iterations=1", *given])


def test_gpt2_is_refused_before_anything_runs_and_llama_warned_of(tmp_path: Path) -> None:
    gpt2 = positioned(tmp_path / "gpt2", "gpt2", 400)
    with Experiment(small(gpt2, 3)) as experiment:
        assert longest_conversation(experiment.models, experiment.rules.game) <= 400
    with pytest.raises(ComityError, match=r"400 positions.*game.length.rounds \(now 60\)"):
        Experiment(small(gpt2, 60))
    llama = positioned(tmp_path / "llama", "llama", 400)
    with pytest.warns(ComityWarning, match="made for 400.*game.length.rounds") as warned:
        Experiment(small(llama, 60)).close()
    assert "\n" not in str(warned[0].message)
    with pytest.raises(ComityError, match="positions"):
        asked = "record.questions={why: '" + "Why? " * 300 + "'}"
        Experiment(small(gpt2, 3, "record.followups=1", asked))


def test_what_could_not_be_foreseen_is_told_in_a_sentence(tmp_path: Path) -> None:
    """Not an IndexError out of the model."""
    engine = Engine(load_model(positioned(tmp_path, "gpt2", 64), "float32", "cpu"))
    engine.hidden_states([list(range(3, 67))], None, gradients=False)
    with pytest.raises(ComityError, match=r"65 tokens.*64 positions"):
        engine.hidden_states([list(range(3, 68))], None, gradients=False)


def test_a_warning_names_what_makes_conversations_long() -> None:
    models = told(
        tiny_models(prompt={"name": "negotiation"}, answer={**TALK, "thinking": 9}), Terse
    )
    models.engine.context_limit = replace(models.engine.context_limit, max_tokens=50)
    with pytest.warns(ComityWarning, match=r"rounds \(now 2\).*message_tokens.*thinking"):
        check_context(models, split())
    models.engine.context_limit = replace(models.engine.context_limit, max_tokens=None)
    check_context(models, split())
    with pytest.raises(ComityError, match=r"server takes 50 \(--max-model-len\).*rounds \(now 2"):
        check_context(models, split(), on_server=50)
    check_context(models, split(), on_server=5000)
    with pytest.warns(ComityWarning, match=r"rounds \(now 2\) or answer.thinking") as warned:
        models.engine.context_limit = replace(models.engine.context_limit, max_tokens=50)
        check_context(models, split("split_no_talk"))
    assert "message_tokens" not in str(warned[0].message), "nobody writes a message in this game"
