"""Known fields of players for `comity tournament --preset NAME`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A tournament by name; what the command line gives comes on top."""

    description: str
    game: str
    players: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    matches: int = 10


_FIRST = (
    *("TitForTat", "FirstByTidemanAndChieruzzi", "FirstByNydegger", "FirstByGrofman"),
    *("FirstByShubik", "FirstBySteinAndRapoport", "Grudger", "FirstByDavis", "FirstByGraaskamp"),
    *("FirstByDowning", "FirstByFeld", "FirstByJoss", "FirstByTullock", "FirstByAnonymous"),
    "Random",
)

PRESETS = {
    "axelrod": Preset(
        "Axelrod's first tournament (1980): 15 strategies, 200 rounds, 5 matches of each pair; "
        "the axelrod package's reconstructions.",
        "prisoners_dilemma",
        tuple(f"axelrod:{name}" for name in _FIRST),
        ("game.length.rounds=200",),
        5,
    ),
    "classic": Preset(
        "The classic strategies of this package, 200 rounds.",
        "prisoners_dilemma",
        (
            *("tit_for_tat", "always_cooperate", "always_defect", "grim_trigger"),
            *("win_stay_lose_shift", "generous_tit_for_tat", "suspicious_tit_for_tat"),
            *("tit_for_two_tats", "alternator", "random"),
        ),
        ("game.length.rounds=200",),
    ),
    "public-goods": Preset(
        "Five strategies in public goods of four seats: unconditional, conditional and random.",
        "public_goods",
        ("always_cooperate", "always_defect", "tit_for_tat", "grim_trigger", "random"),
        ("game.length.rounds=20",),
        20,
    ),
}
"""Every preset by name."""
