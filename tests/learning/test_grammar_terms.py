"""Learning from text that was sampled under grammars: the same masks at both ends."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from comity.engines.grammar import GrammarCompiler
from comity.engines.local import scoring, session
from comity.engines.local.sampling import Sample, SampleRequest
from comity.engines.local.session import Session
from comity.learning.learner import Learner
from comity.learning.loss import LossSettings
from comity.learning.optimizer import OptimizerSettings
from comity.learning.reference_policy import ReferencePolicy
from comity.learning.training_batch import (
    TrainedDecision,
    TrainingSequence,
    compute_terms,
    micro_batches,
)
from comity.players.language_model.player import LanguageModelBackend
from comity.rollout.play import Rollout
from comity.rollout.records import Conversation
from comity.train import training_sequences
from tests.runs.rows import DECISION_ROW
from tests.worlds import tiny_folder, tiny_models

TEMPERATURE = 0.7
MESSAGE = r"<m>[^<]{0,40}</m>"
CLAIM = r"<c>[ \n]{0,2}(10|[0-9]) hats, (10|[0-9]) books</c>"
WORD = r"(accept|reject)!?"


def negotiated(
    models: LanguageModelBackend,
    adapters: Sequence[str] = ("main", "main", "other", "other"),
    record: int = 0,
) -> tuple[dict[str, list[TrainingSequence]], list[tuple[int, Sample]], Session]:
    """Conversations of a message, a claim, a word and free text, all in one batch."""
    chat, engine = models.chat, models.engine
    grammars = GrammarCompiler(chat, engine.head.vocabulary)
    session = engine.session(record)
    talks = [session.conversation(adapter) for adapter in adapters]
    found: list[list[TrainedDecision]] = [[] for _ in talks]
    answers: list[tuple[int, Sample]] = []
    rng = np.random.default_rng(11)
    for turn, (pattern, limit, closing) in enumerate(
        [(MESSAGE, 5, "</m>"), (CLAIM, 9, ""), (WORD, 9, ""), ("", 4, "")]
    ):
        draws, starts = [], []
        for i, talk in enumerate(talks):
            told = "You play a game with another player." if i < 3 else "Other words."
            talk.append(
                chat.encode_first_prompt(told)
                if turn == 0
                else chat.encode_next_prompt("And now?", False)
            )
            starts.append(len(talk.ids))
            matcher = grammars.compile(pattern).start() if pattern else None
            close = tuple(chat.tokenizer.encode(closing)) if closing else ()
            stream = np.random.default_rng([turn, i])
            draws.append(
                SampleRequest(
                    talk, limit, frozenset(chat.end_ids), stream, TEMPERATURE, matcher, close
                )
            )
        drawn = session.sample(draws)
        answers += zip(starts, drawn, strict=True)
        for i, (start, one) in enumerate(zip(starts, drawn, strict=True)):
            if pattern and one.stop != "limit":
                text = chat.decode(talks[i].ids[start : len(talks[i].ids) - one.stopped])
                assert re.fullmatch(pattern, text)
            found[i].append(
                TrainedDecision(
                    start,
                    tuple(one.ids),
                    (),
                    tuple(one.logprobs),
                    float(rng.normal()),
                    TEMPERATURE,
                    source=len(talks) * turn + i,
                    offsets=tuple(one.offsets),
                    masks=tuple(one.masks),
                )
            )
    by_adapter: dict[str, list[TrainingSequence]] = {}
    for adapter, talk, decisions in zip(adapters, talks, found, strict=True):
        by_adapter.setdefault(adapter, []).append(
            TrainingSequence(
                tuple(talk.ids[: decisions[-1].token_indices[-1] + 1]), tuple(decisions)
            )
        )
    return by_adapter, answers, session


def make_learner(models: LanguageModelBackend, loss: LossSettings, budget: int = 4096) -> Learner:
    return Learner(models.engine, "main", OptimizerSettings(learning_rate=0.01), loss, 10, budget)


def gradient(one: Learner) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in one.parameters.items() if p.grad is not None}
    one.optimizer.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "qwen3"])
def test_the_learner_reads_what_was_sampled_and_nothing_that_was_forced(architecture: str) -> None:
    models = tiny_models(architecture, adapters=("main", "other"))
    found, answers, _ = negotiated(models)
    assert {one.stop for _, one in answers} >= {"closed", "grammar"}
    forced = sum(one.offsets[-1] + 1 - len(one.ids) for _, one in answers)
    assert forced > 40, "much of it is forced"
    for adapter, theirs in found.items():
        behavior = [b for sequence in theirs for d in sequence.decisions for b in d.behavior]
        outputs = compute_terms(models.engine, theirs, adapter, gradients=False)
        assert len(outputs.logprobs) == sum(
            len(d.tokens) for sequence in theirs for d in sequence.decisions
        )
        np.testing.assert_allclose(outputs.logprobs.numpy(), behavior, atol=1e-4)
        assert all(
            sequence.ids[place] == token
            for sequence in theirs
            for d in sequence.decisions
            for place, token in zip(d.token_indices, d.tokens, strict=True)
        )


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_gradients_are_those_of_plain_peft_with_explicit_masks(
    architecture: str, top_k: int | None, tmp_path: Any
) -> None:
    """Loss, gradient, entropy and divergence, token by token from ordinary logits."""
    models = tiny_models(architecture, adapters=("main", "other"))
    found, _, _ = negotiated(models)
    settings = LossSettings(
        kl=0.2, entropy=0.3, normalization="tokens", importance_cap=None, entropy_top_k=top_k
    )
    one = make_learner(models, settings)
    sums = one.accumulate_gradients(found["main"])
    got = gradient(one)

    models.engine.adapters.save("main", tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder(architecture), dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder(architecture), dtype=torch.float32)
    twin = PeftModel.from_pretrained(plain, str(tmp_path), is_trainable=True)
    z = sum(len(d.tokens) for sequence in found["main"] for d in sequence.decisions)
    total = 0.0
    for sequence in found["main"]:
        ids = torch.tensor([sequence.ids])
        logits, before = twin(input_ids=ids).logits[0], base(input_ids=ids).logits[0].detach()
        for d in sequence.decisions:
            for place, token, mask in zip(d.token_indices, d.tokens, d.masks, strict=True):
                barrier = torch.zeros(logits.shape[1])
                if mask is not None:
                    barrier[[t for t in range(len(barrier)) if t not in mask]] = -torch.inf
                table = torch.log_softmax(logits[place - 1] / TEMPERATURE + barrier, -1)
                theirs = torch.log_softmax(before[place - 1] / TEMPERATURE + barrier, -1)
                possible = table[barrier == 0]
                if top_k is not None:
                    best = possible.sort(descending=True).values[:top_k]
                    possible = best - torch.logsumexp(best, 0)
                entropy = -(possible.exp() * possible).sum()
                gap = theirs[token] - table[token]
                loss = -d.advantage * table[token] + 0.2 * (gap.exp() - gap - 1) - 0.3 * entropy
                total = total + loss / z
    assert isinstance(total, torch.Tensor)
    total.backward()
    assert sums.loss == pytest.approx(float(total.detach()), rel=1e-4)
    largest = max(float(g.abs().max()) for g in got.values())
    compared = 0
    for name, parameter in twin.named_parameters():
        if parameter.grad is not None:
            short = name.replace("base_model.model.", "").replace(".default.weight", "")
            assert torch.allclose(got[short], parameter.grad, atol=3e-5 * largest), short
            compared += 1
    assert compared == len(got) > 0


def test_neither_micro_batches_nor_chunks_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    models = tiny_models(adapters=("main", "other"))
    found, _, _ = negotiated(models, ("main",) * 4)
    settings = LossSettings(kl=0.1, entropy=0.05, normalization="tokens", entropy_top_k=4)
    whole = make_learner(models, settings)
    sums = whole.accumulate_gradients(found["main"])
    expected = gradient(whole)
    seen = []
    logits = models.engine.head.logits
    monkeypatch.setattr(scoring, "MAX_LOGITS", 7 * models.engine.head.vocabulary)
    monkeypatch.setattr(
        models.engine.head, "logits", lambda hidden: seen.append(len(hidden)) or logits(hidden)
    )
    cut = make_learner(models, settings, budget=40)
    assert len(micro_batches(found["main"], 0, 40)) > 1
    cut_sums = cut.accumulate_gradients(found["main"])
    assert max(seen) == 7
    largest = max(float(g.abs().max()) for g in expected.values())
    for name, got in gradient(cut).items():
        assert torch.allclose(got, expected[name], atol=3e-5 * largest), name
    assert cut_sums.loss == pytest.approx(sums.loss, abs=1e-5)
    assert cut_sums.entropy == pytest.approx(sums.entropy, rel=1e-4)


def test_the_passes_of_playing_give_the_same_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MIN_TOKENS_PER_PASS", 0)
    models = tiny_models()
    found, _, recording = negotiated(models, ("main", "main"), record=10_000)
    fresh = compute_terms(models.engine, found["main"], "main")
    computed = models.engine.tokens_computed
    again = compute_terms(models.engine, found["main"], "main", recording=recording)
    assert models.engine.tokens_computed == computed
    torch.testing.assert_close(again.logprobs, fresh.logprobs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again.entropy, fresh.entropy, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("several", [True, False])
def test_the_reference_has_the_same_masks(several: bool) -> None:
    models = tiny_models(adapters=("main", "other"))
    found, _, _ = negotiated(models)
    theirs = found["main"]
    if not several:
        theirs = [
            TrainingSequence(
                sequence.ids[: sequence.decisions[1].token_indices[-1] + 1],
                (sequence.decisions[1],),
            )
            for sequence in theirs
        ]
    expected = []
    base = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"), dtype=torch.float32)
    with torch.no_grad():
        for sequence in theirs:
            logits = base(input_ids=torch.tensor([sequence.ids])).logits[0] / TEMPERATURE
            for d in sequence.decisions:
                for place, token, mask in zip(d.token_indices, d.tokens, d.masks, strict=True):
                    row = logits[place - 1]
                    among = row if mask is None else row[torch.from_numpy(mask.tokens)]
                    expected.append(float(row[token] - torch.logsumexp(among, 0)))
    got = ReferencePolicy(models.engine).logprobs(theirs)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("top_k", [None, 4])
def test_the_entropy_bonus_raises_entropy_under_masks(top_k: int | None) -> None:
    models = tiny_models(adapters=("main", "other"))
    found, _, _ = negotiated(models)
    quiet = [
        replace(one, decisions=tuple(replace(d, advantage=0.0) for d in one.decisions))
        for one in found["main"]
    ]

    def entropy() -> float:
        outputs = compute_terms(models.engine, quiet, "main", gradients=False, entropy_top_k=top_k)
        return float(outputs.entropy.mean())

    before = entropy()
    one = make_learner(models, LossSettings(entropy=1.0, entropy_top_k=top_k))
    row = one.update(quiet)
    assert row["entropy"] == pytest.approx(before, rel=1e-4)
    assert entropy() > before + 0.01


def test_sequences_end_with_the_last_chosen_token() -> None:
    models = tiny_models(adapters=("main", "other"))
    found, _, _ = negotiated(models, ("main",))
    (sequence,) = found["main"]
    # Only message and claim; the claim ends with forced tokens.
    first, second = sequence.decisions[:2]
    decisions = [
        replace(
            DECISION_ROW,
            adapter="main",
            trained=True,
            conversation=0,
            start=d.start,
            tokens=list(d.tokens),
            token_logprobs=list(d.behavior),
            offsets=list(d.offsets),
        )
        for d in (first, second)
    ]
    rollout = Rollout(
        decisions,
        [(), ()],
        [first.masks, second.masks],
        [Conversation(0, 0, 0, 0, "main", list(sequence.ids))],
        None,  # type: ignore[arg-type]  # What was played is of no interest here.
    )
    (made,) = training_sequences(rollout, "main", TEMPERATURE)
    assert made.ids == sequence.ids[: second.start + second.offsets[-1] + 1]
    assert made.ids[-1] == second.tokens[-1]
    assert [d.masks for d in made.decisions] == [first.masks, second.masks]
    assert [d.offsets for d in made.decisions] == [first.offsets, second.offsets]
    outputs = compute_terms(models.engine, [made], "main", gradients=False)
    np.testing.assert_allclose(
        outputs.logprobs.numpy(), [*first.behavior, *second.behavior], atol=1e-4
    )
