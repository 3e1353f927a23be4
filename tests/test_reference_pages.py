"""The reference pages say what the package says."""

from pathlib import Path

import pytest

from docs.generate import PAGES, page

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_package_says(name: str) -> None:
    stale = f"docs/reference/{name}.md is stale; run `make docs` (python -m docs.generate)"
    assert (REFERENCE / f"{name}.md").read_text(encoding="utf-8") == page(name), stale
