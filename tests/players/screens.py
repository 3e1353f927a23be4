"""A screen whose lines were typed beforehand."""

from collections.abc import Iterable


class FakeScreen:
    """Types the given lines, then is empty; keeps all that was shown, in order."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        self.log: list[tuple[str, str]] = []
        """(kind, text): "show", "say", "complain", "turn", "hint"."""

    def show(self, title: str, text: str) -> None:
        self.log.append(("show", f"{title}\n{text}"))

    def say(self, text: str) -> None:
        self.log.append(("say", text))

    def complain(self, text: str) -> None:
        self.log.append(("complain", text))

    def turn_of(self, name: str) -> None:
        self.log.append(("turn", name))

    def read(self, hint: str) -> str:
        self.log.append(("hint", hint))
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)

    def all(self, kind: str) -> list[str]:
        return [text for one, text in self.log if one == kind]
