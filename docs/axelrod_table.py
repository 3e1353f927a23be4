"""The table of the axelrod package's strategies, which Comity reads without importing it."""

import csv
import io

from comity.players.scripted.axelrod_package import package


def axelrod_table() -> str:
    """The table of `comity.players.scripted.axelrod_index`, made from the installed package."""
    axelrod = package()
    names = ("stochastic", "long_run_time", "inspects_source", "manipulates_source",
             "manipulates_state")  # fmt: skip
    lines = io.StringIO()
    lines.write(f"# Made by `make docs` from axelrod {axelrod.__version__}\n")
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["class_name", "title", "memory_depth", *names, "makes_use_of"])
    for kind in sorted(axelrod.all_strategies, key=lambda kind: kind.__name__.lower()):
        player = kind()
        said = {key: axelrod.Classifiers[key](player) for key in (*names, "memory_depth")}
        uses = sorted(axelrod.Classifiers["makes_use_of"](player) or ())
        flags = ["yes" if said[key] else "no" for key in names]
        rows.writerow(
            [kind.__name__, kind.name, f"{said['memory_depth']:g}", *flags, " ".join(uses)]
        )
    return lines.getvalue()
