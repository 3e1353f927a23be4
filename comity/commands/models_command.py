"""The commands `comity models ...`: which language models there are, and downloading one."""

from typing import Annotated

import typer

models = typer.Typer(help="List and download language models.")


@models.command("list")
def list_models() -> None:
    """List the known models."""
    from comity.commands.listing import catalog, show

    show(catalog("models"))
    print(
        "\nSelect one with model=NAME; model.name= also takes a local folder or a Hugging Face id "
        "(Qwen/Qwen3-0.6B)."
    )


@models.command("fetch")
def fetch_model(
    name: Annotated[str, typer.Argument(help="A model's name.")] = "smollm2-135m",
) -> None:
    """Download a model now, so that later runs need no network."""
    from comity.engines.local.models import fetch

    print(fetch(name))
