"""Models behind an API during one rollout: all requests of a step go out at once.

Every decision is a coroutine of its own: ask, parse, and where the answer cannot be read, quote it
back with the reason and ask again. A failed attempt and its complaint stay in the chat. An answer
that was refused is asked for again without a comment, because there is nothing to correct.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from comity.engines.api.client import ApiFailureError
from comity.engines.event_loop import wait
from comity.errors import warn
from comity.games.base import ILLEGAL, Illegal
from comity.players.api.chat_log import Chat, ChatLog
from comity.players.api.reading import complaint, read_answer, split_thinking
from comity.players.api.structured import response_format
from comity.players.base import Request, Response
from comity.prompts.answer_forms.forms import Form

UNFINISHED = ("refused", "cut_off")
"""Answers that say nothing about whether the server keeps to a schema."""


class ApiSession(ChatLog):
    """The session of all seats of one model (`comity.players.base.AsynchronousSession`)."""

    recording = None

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """One response per request, in order."""
        return self.submit(requests)()

    def submit(self, requests: Sequence[Request]) -> Callable[[], list[Response]]:
        """Send the requests; the result waits for the responses."""
        chats = [self.append_prompt(request) for request in requests]
        future = self.setup.client.loop.start(
            [self._decide(request, chat) for request, chat in zip(requests, chats, strict=True)]
        )
        return lambda: self._checked(wait(future))

    def _checked(self, responses: list[Response]) -> list[Response]:
        """The responses; warns once per endpoint where its answers are not of the schema."""
        client = self.setup.client
        if self.setup.structured and not client.ignores_schema:
            complete = [r for r in responses if not r.failure and r.parse_status not in UNFINISHED]
            client.ignores_schema = any(not one.constrained for one in complete)
            if client.ignores_schema:
                warn(
                    f"{client.endpoint.name} answers without the JSON that api.structured=true "
                    "asks for; the server seems to ignore it (answers are parsed all the same)"
                )
        return responses

    def finish(self) -> dict[int, Response]:
        """Nothing: responses are always complete."""
        return {}

    async def _decide(self, request: Request, chat: Chat) -> Response:
        """The response to one request, after all its attempts."""
        prompt, labels = self.prompt(request)
        form = prompt.form(request.game, request.turn)
        shown = tuple(labels[move] for move in request.turn.legal) if form is None else ()
        before: list[Response] = []
        for attempt in range(self.setup.most_attempts):
            try:
                parts = await self._attempt(request, chat, attempt, form, shown)
            except ApiFailureError as error:
                reason = f"{self.setup.client.endpoint.name}: {error}"
                return Response(ILLEGAL, "", conversation=chat.number, failure=reason)
            *thoughts, answer = parts
            before += thoughts
            last = attempt + 1 == self.setup.most_attempts
            if last or not isinstance(answer.action, Illegal):
                failed = sum(one.kind == "attempt" for one in before)
                return replace(answer, before=tuple(before), attempts=1 + failed)
            before.append(replace(answer, kind="attempt"))
            if answer.parse_status != "refused":
                self.say(chat, "user", complaint(answer, form))
            else:
                chat.messages.pop()  # The transcript keeps it.
        raise AssertionError("there is at least one attempt")

    async def _attempt(
        self, request: Request, chat: Chat, attempt: int, form: Form | None, shown: tuple[str, ...]
    ) -> list[Response]:
        """Ask once: a thinking block, if there is one, and the answer."""
        setup, turn = self.setup, request.turn
        more = {"response_format": response_format(form, shown)} if setup.structured else {}
        place = {"seat": turn.seat, "round": turn.round, "step": turn.step, "attempt": attempt}
        completion = await setup.client.ask(
            setup.client.body(chat.messages, more),
            (*request.stream, *place.values()),
            {"match": list(request.stream), **place},
        )
        start = self.say(chat, "assistant", completion.text)
        block = ""
        if setup.thinking:
            block, rest = split_thinking(completion.text)
            completion = replace(completion, text=rest)
        answer = read_answer(request, completion, form, shown, setup.structured)
        answer = replace(answer, conversation=chat.number, start=start)
        if not block:
            return [answer]
        return [replace(answer, action=ILLEGAL, text=block, kind="think", legal=()), answer]
