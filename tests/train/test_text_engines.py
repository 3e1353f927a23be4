"""`engine=vllm` in an experiment: where the server comes from, and what is refused before."""

from collections.abc import Callable
from pathlib import Path

import pytest

from comity.config.compose import compose
from comity.engines.chat import ChatFormat
from comity.engines.grammar import GrammarCompiler
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.errors import ComityError
from comity.experiments import text_engines
from comity.train import train
from tests.train.small import decisions, short_rules
from tests.vllm_twin import VllmTwin, serving


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["engine=vllm"], "engine.url"),
        (["engine=vllm", "engine.url=http://127.0.0.1:1", "engine.python=python"], "not both"),
        (
            [
                "engine=vllm",
                "engine.url=http://x",
                "adapter.dropout=0.1",
                "adapter.dropout_in=both",
            ],
            "dropout",
        ),
        (["engine=vllm", "engine.url=http://x", "model.quantization=nf4"], "plain weights"),
        (["engine=vlm"], "engine"),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ComityError, match=message):
        compose("smoke", overrides)


def test_everything_is_computed_here_by_default() -> None:
    assert compose("smoke").engine.name == "local"


def test_a_training_run_with_messages_on_a_server(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two updates of a negotiation: the second is played with the first one's weights."""
    monkeypatch.setattr(text_engines, "_shared", {})
    short_rules(monkeypatch)
    folder = tiny_model("llama")
    twin = VllmTwin(
        Engine(load_model(str(folder), "float32", "cpu")),
        GrammarCompiler(ChatFormat.from_tokenizer(load_tokenizer(str(folder)))),
    )
    with serving(twin) as url:
        config = compose(
            "",
            [
                f"model.name={folder}",
                "model.dtype=float32",
                *("game=trust_and_split_rps", "prompt=negotiation", "game.length.rounds=1"),
                *("answer.message_tokens=4", "matches=2", "model.system=null"),
                "iterations=2",
                f"output={tmp_path / 'runs'}",
                "engine=vllm",
                f"engine.url={url}",
                f"engine.adapters={tmp_path / 'served'}",
            ],
        )
        run = train(config, report=False)
        assert len(set(twin.loaded)) == 2
        assert {body["model"] for body in twin.bodies} == set(twin.loaded)
        assert any(d.kind == "message" for d in decisions(run))
        # Unload what is left while the server is still there.
        for sampler in text_engines._shared.values():
            sampler.close()


def test_an_absent_server_is_told_before_anything_is_played(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    config = compose(
        "smoke",
        [
            f"model.name={tiny_model('llama')}",
            f"output={tmp_path}",
            "engine=vllm",
            "engine.url=http://127.0.0.1:9",
        ],
    )
    with pytest.raises(ComityError, match="cannot be reached"):
        train(config)
    assert not list(tmp_path.iterdir())
