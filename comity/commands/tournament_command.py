"""The command `comity tournament`."""

from pathlib import Path
from typing import Annotated

import typer

from comity.commands.process import resumable

TOURNAMENT_EXAMPLES = """[bold]Examples[/bold]

comity tournament prisoners_dilemma tit_for_tat always_defect 'random(p=0.3)' --matches 20

comity tournament prisoners_dilemma run:runs/ipd-seed-0-20260131-120000 base tit_for_tat

comity tournament prisoners_dilemma run:runs/a@10 run:runs/a@20 game.noise=0.05

comity tournament --resume tournaments/MINE grim_trigger --matches 40

comity tournament --preset axelrod

comity tournament public_goods tit_for_tat always_defect random game.seats=3
"""


def tournament(
    game: Annotated[
        str,
        typer.Argument(help="A game of `comity list games`, or an experiment.", metavar="GAME"),
    ] = "",
    players: Annotated[
        list[str] | None,
        typer.Argument(
            help="Players (a strategy, axelrod:NAME, run:FOLDER[@ITERATION][:LEARNER], base, "
            "model:ID, adapter:FOLDER, api:MODEL@BASE_URL), and group=option or key=value.",
            metavar="PLAYER ...",
            show_default=False,
        ),
    ] = None,
    matches: Annotated[
        int | None, typer.Option(help="Matches of each pair or composition. [default: 10]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed. [default: 0]")] = None,
    output: Annotated[
        str, typer.Option(help="Parent folder of tournaments.", metavar="DIR")
    ] = "tournaments",
    preset: Annotated[
        str,
        typer.Option(
            help="A known field: axelrod (the first tournament, 1980), classic or public-goods. "
            "Players and settings given beside it are added.",
            metavar="PRESET",
        ),
    ] = "",
    compositions: Annotated[
        int | None,
        typer.Option(
            help="Games of more than two seats: compositions of agents that are drawn where there "
            "are more. [default: 200]",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a tournament to continue; players and matches can be added.",
            metavar="TOURNAMENT",
        ),
    ] = None,
) -> None:
    """Play every ordered pair of players, or every composition of the seats, and write a page."""
    from comity.commands.tournament import Request, run_tournament, split_arguments
    from comity.commands.tournament_page import write_page

    words = list(players or [])
    known = None
    if preset:
        from comity.commands.tournament_presets import PRESETS
        from comity.errors import lookup

        known = lookup("preset", preset, PRESETS)
        if game and not _is_game(game):
            words, game = [game, *words], ""
    if resume is not None and game:
        # With --resume no game is needed: the first word may be a player.
        from comity.commands.tournament import read_entry

        if game != read_entry(resume).game and not _is_game(game):
            words, game = [game, *words], ""
    named, overrides = split_arguments(words)
    if known is not None:
        named, overrides = [*known.players, *named], [*known.overrides, *overrides]
        game, matches = game or known.game, known.matches if matches is None else matches
    with resumable():
        folder = run_tournament(
            Request(
                game, tuple(named), tuple(overrides), matches, seed, output, resume, compositions
            )
        )
    print(f"tournament: {folder}\npage: {write_page(folder)}")


def _is_game(name: str) -> bool:
    from comity.config.groups import options
    from comity.config.own_parts import own

    return name in options("game") or name in own("game")
