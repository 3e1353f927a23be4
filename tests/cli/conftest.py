"""What tests of several commands share."""

from pathlib import Path

import pytest

import comity.experiments.backends


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model is a failure."""

    def load(*_: object, **more: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(comity.experiments.backends, "language_models", load)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Populations are recorded below the present folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
