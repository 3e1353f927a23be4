"""Language models during one rollout: how prompts are appended and responses come about.

Responses come in two ways, both batched over all matches:

- *scored* (`comity.players.language_model.scored_answers`): the legal answers are a short list; one
  is sampled from their exact distribution;
- *generated* (`comity.players.language_model.generation`): tokens are sampled, freely or under a
  grammar.

A thinking block and failed attempts are responses of their own before the one that counts
(`Response.before`).
"""

from collections.abc import Sequence
from dataclasses import replace

from comity.games.base import Illegal
from comity.players.base import Request, Response, Transcript
from comity.players.language_model import generation, scored_answers
from comity.players.language_model.conversation_log import ConversationLog, SeatContext
from comity.prompts.answer_forms.forms import Thinking
from comity.prompts.answers import AnswerFormat, Attempts, Free, GenerationFormat
from comity.prompts.base import Prompt
from comity.prompts.exploration import EXPLORATION, ExplorationPrompt


class LanguageModelSession(ConversationLog):
    """The session of all policies on one engine (`comity.players.base.PlayerSession`)."""

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """One response per request; all are one batch of the engine."""
        contexts = [self._tell(request) for request in requests]
        form = self.setup.answer
        given: list[Response | None] = [None] * len(requests)
        before: list[list[Response]] = [[] for _ in requests]
        if isinstance(form, Free):
            given = list(generation.generate_free(self, requests, contexts))
        if isinstance(form, GenerationFormat) and form.thinking:
            for notes, thought in zip(
                before, generation.generate_thinking(self, requests, contexts), strict=True
            ):
                notes.append(thought)
        if isinstance(form, Attempts):
            given = list(generation.generate_attempts(self, requests, contexts, before))
        # The others are scored or decoded under a grammar.
        scored = [
            i for i, request in enumerate(requests) if given[i] is None and request.turn.legal
        ]
        constrained = [
            i for i, request in enumerate(requests) if given[i] is None and not request.turn.legal
        ]
        for members, answered in (
            (scored, scored_answers.score_and_sample),
            (constrained, generation.generate_constrained),
        ):
            if members:
                found = answered(
                    self,
                    [requests[i] for i in members],
                    [contexts[i] for i in members],
                    [sum(one.kind == "attempt" for one in before[i]) for i in members],
                )
                for i, answer in zip(members, found, strict=True):
                    given[i] = answer
        return [
            _with_previous(_without_illegal_training(answer, form), notes)
            for answer, notes in zip(given, before, strict=True)
            if answer is not None
        ]

    def finish(self) -> dict[int, Response]:
        """Complete responses that were pending, by transcript."""
        return generation.finish(self)

    def _tell(self, request: Request) -> SeatContext:
        """Append the prompt of a request."""
        setup, turn = self.setup, request.turn
        prompt, _ = self.prompt(request)
        key = (request.match, turn.seat)
        form = setup.answer
        thinking = form.thinking if isinstance(form, GenerationFormat) else 0
        note = f"\n{Thinking(thinking).format_request()}" if thinking else ""
        ended: bool | None = None
        if prompt.single_turn or key not in self._open:
            text = prompt.opening(request.game, turn) + note
            conversation = self.session.conversation(request.player.adapter)
            self.transcripts.append(
                Transcript(request.match, turn.seat, request.player.adapter, conversation.ids)
            )
            self._open[key] = SeatContext(len(self.transcripts) - 1, conversation)
        else:
            text = prompt.following(request.game, turn) + note
            ended = self._open[key].ended
        context = self._open[key]
        context.turns.append((len(context.conversation.ids), context.ended))
        context.ended = False
        instruction, ending = self._instruction(request, prompt)
        if instruction:
            at = len(text) - len(ending + note)
            before, inserted, after = setup.chat.encode_with_insertion(text, at, instruction, ended)
            self.append("prompt", context, before)
            self.append(EXPLORATION, context, inserted)
            self.append("prompt", context, after)
        elif ended is None:
            self.append("prompt", context, setup.opening_ids(text))
        else:
            self.append("prompt", context, setup.chat.encode_next_prompt(text, ended))
        return context

    def _instruction(self, request: Request, prompt: Prompt) -> tuple[str, str]:
        """The exploration instruction of a learner ("": none), and the text that follows it.

        A counterfactual keeps the instruction of its match: like chance outcomes of the game, it
        does not depend on responses.
        """
        exploration = self.setup.exploration
        if not (exploration and request.player.trained and isinstance(prompt, ExplorationPrompt)):
            return "", ""
        stream = self._streams.setdefault(request.match, request.stream)
        ending = prompt.ending(request.game, request.turn)
        if ending is None:
            return "", ""
        return exploration.sample_instruction(stream, request.turn.seat, request.turn.round), ending


def _without_illegal_training(answer: Response, form: AnswerFormat) -> Response:
    """The answer, excluded from training if it is illegal and the format says so."""
    if isinstance(answer.action, Illegal) and not form.train_illegal:
        return replace(answer, trainable=False)
    return answer


def _with_previous(answer: Response, before: Sequence[Response]) -> Response:
    """The answer with the parts before it."""
    if not before:
        return answer
    failed = sum(one.kind == "attempt" for one in before)
    return replace(answer, before=tuple(before), attempts=1 + failed)
