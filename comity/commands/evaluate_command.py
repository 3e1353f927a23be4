"""The commands `comity evaluate ...`: evaluate trained policies."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from comity.config.limits import LARGEST_SEED
from comity.errors import ComityError
from comity.runs.progress import say

evaluate = typer.Typer(help="Evaluate trained policies.")


@evaluate.command(
    epilog="""[bold]Examples[/bold]

comity evaluate generalization runs/ipd-seed-0-20260131-120000 --quick

comity evaluate generalization runs/my-study --games stag_hunt,chicken --seeds 100,101

comity evaluate generalization RUN --games prisoners_dilemma --table mine=3,0,5,1 --labels AB,BA

comity evaluate generalization RUN --opponents tit_for_tat --framings prose,action_game_state
"""
)
def generalization(
    run: Annotated[Path, typer.Argument(help="Folder of a run or study.", metavar="RUN")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer games, labels, layouts and orders.")
    ] = False,
    games: Annotated[
        str,
        typer.Option(
            help="Games with two moves to evaluate on, comma-separated (stag_hunt,"
            "prisoners_dilemma, with payoffs 5/3/1/0); default: the moral study's six.",
        ),
    ] = "",
    table: Annotated[
        list[str] | None,
        typer.Option(
            help="Your own game by the payoffs of a symmetric table, NAME=CC,CD,DC,DD "
            "(mine=3,0,5,1), or by eight numbers, own and other's; repeatable.",
            metavar="NAME=NUMBERS",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(help="Evaluation seeds of the sampled play, comma-separated (100,101,102)."),
    ] = "",
    labels: Annotated[
        str,
        typer.Option(
            help="Label sets, comma-separated: action12, action21, action34, AB, BA, XY, 01, 10, "
            "XY_YX, reserved, random, random2, random7 (AB,BA,random7). Sampled play uses the "
            "first."
        ),
    ] = "",
    layouts: Annotated[
        str,
        typer.Option(
            help="Layouts of the payoff table: original, columns, rows, reversed (original,rows)."
        ),
    ] = "",
    opponents: Annotated[
        str,
        typer.Option(
            help="Scripted opponents in addition to random, comma-separated "
            "(tit_for_tat,always_defect)."
        ),
    ] = "",
    framings: Annotated[
        str,
        typer.Option(
            help="Additional framings and off-task prompts for sampled play: prose, story, "
            "explicit, action_only, action_game, action_game_state (prose,story)."
        ),
    ] = "",
    goal: Annotated[
        str | None,
        typer.Option(
            help="Goal in the prompt, instead of training's: selfish, neutral, none or a sentence "
            "('Pick what is best for both of you.').",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Temperature, instead of training's (1.0).", show_default=False),
    ] = None,
    penalty: Annotated[
        float | None,
        typer.Option(
            help="Penalty of the deontological evaluation rewards, instead of training's "
            "(4, as in the published evaluation).",
            show_default=False,
        ),
    ] = None,
    seats: Annotated[
        str,
        typer.Option(help="own: evaluate on the trained seat; both: also on the other (both)."),
    ] = "own",
) -> None:
    """Evaluate base and trained policies on games, labels and framings not seen in training."""
    try:
        numbers = [int(word) for word in _words(seeds)]
    except ValueError:
        raise ComityError(f"--seeds takes whole numbers like 100,101, not {seeds!r}") from None
    if any(not 0 <= number <= LARGEST_SEED for number in numbers):
        raise ComityError(f"--seeds takes numbers from 0 to {LARGEST_SEED}")
    if seats not in ("own", "both"):
        raise ComityError(f"--seats must be own or both, not {seats!r}")
    if temperature is not None and not 0 < temperature < float("inf"):
        raise ComityError(f"--temperature must be above 0, not {temperature}")
    if sys.modules.get("comity.commands.generalization") is None:
        say("loading torch ...")
    if penalty is not None and not 0 <= penalty < float("inf"):
        raise ComityError(f"--penalty must not be negative, not {penalty}")
    from comity.commands.generalization import evaluate_generalization
    from comity.commands.generalization_plan import Options

    page = evaluate_generalization(
        run,
        Options(
            quick=quick,
            games=_words(games),
            tables=tuple(table or ()),
            seeds=tuple(numbers),
            labels=_words(labels),
            layouts=_words(layouts),
            opponents=_words(opponents),
            framings=_words(framings),
            goal=goal,
            temperature=temperature,
            penalty=penalty,
            both_seats=seats == "both",
        ),
    )
    print(f"page: {page}\nnumbers: {page.with_suffix('.json')}")


def _words(text: str) -> tuple[str, ...]:
    """The words of a comma-separated option."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
