"""What tests of several commands share."""

import pytest

import comity.experiments.backends


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model is a failure."""

    def load(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(comity.experiments.backends, "language_models", load)
