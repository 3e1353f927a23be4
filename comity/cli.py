"""The command line `comity`.

An error that the user can fix is printed as one line on stderr, with exit code 2 (misuse), 1
(the work failed) or 130 (interrupted); `--debug` shows the traceback instead. Slow imports
(torch, Hydra) are made inside the command that needs them.
"""

import errno
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from comity.commands.config_command import CONFIG_EXAMPLES, show_config
from comity.commands.doctor_command import DOCTOR_EXAMPLES, doctor
from comity.commands.evaluate_command import evaluate
from comity.commands.exploit_command import EXPLOIT_EXAMPLES, exploit
from comity.commands.hints import usage_fault
from comity.commands.models_command import models
from comity.commands.options import (
    ConfigName,
    ConfigPath,
    ExperimentName,
    Overrides,
    split_overrides,
)
from comity.commands.population_command import POPULATION_EXAMPLES, population
from comity.commands.process import (
    StoppedByUserError,
    flush_or_drop,
    interrupts,
    occupy_standard_streams,
    plain_warnings,
    resumable,
)
from comity.commands.report_page import has_own_page, report_alone
from comity.commands.tournament_command import TOURNAMENT_EXAMPLES, tournament
from comity.distributed.environment import check_command, end_process, local_rank, rank, world_size
from comity.errors import ComityError, pointed_at, printable, warn
from comity.registry import place_in_own_parts
from comity.runs.progress import say

app = typer.Typer(
    name="comity",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Get started:  comity list experiments,  then  comity train smoke",
)
app.add_typer(models, name="models")
app.add_typer(evaluate, name="evaluate")


def _show_version(value: bool) -> None:
    if value:
        try:
            print(f"comity {version('comity')}")
        except PackageNotFoundError:
            print("comity (not installed)")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def comity(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with errors (after any command).")
    ] = False,
) -> None:
    """Train language models with reinforcement learning in social dilemmas, and evaluate them."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(
    epilog="""[bold]Examples[/bold]

comity train ipd

comity train ipd reward=utilitarian iterations=10

comity train ipd game=stag_hunt game.length.rounds=5 'seats=\\[learner,tit_for_tat]'

comity train ipd --multirun seed=0,1,2 reward=own,utilitarian

comity train --config-path my_configs --config-name mine

comity train --resume runs/ipd-seed-0-20260131-120000
"""
)
def train(
    name: ExperimentName = "",
    overrides: Overrides = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Run every combination of comma lists.")
    ] = False,
    config_path: ConfigPath = None,
    config_name: ConfigName = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a run or study to continue.", metavar="RUN")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would run and how long it would take; stop."),
    ] = False,
) -> None:
    """Run an experiment: play, train, evaluate, report."""
    name, changes = split_overrides(name, overrides)
    from comity.commands.launch import start

    with resumable():
        folders = start(name, changes, multirun, config_path, config_name, resume, dry_run)
    if dry_run or rank() > 0:
        return
    from comity.reports.summary.outcome import outcome_lines

    for folder in folders:
        for line in outcome_lines(folder):
            print(f"result: {line}")
        page = folder / "report.html"
        print(f"page: {page}" if page.exists() else f"run: {folder}")
    if multirun and len(folders) > 1 and all((one / "report.html").exists() for one in folders):
        from comity.reports import build

        try:
            print(f"page of all {len(folders)} runs: {build(folders)[0]}")
        except ComityError as error:  # The runs are done, and each has its own page.
            warn(f"no page of all runs: {error}")


# `comity --help` lists commands in this order.
app.command("config", epilog=CONFIG_EXAMPLES)(show_config)
app.command("doctor", epilog=DOCTOR_EXAMPLES)(doctor)
app.command("tournament", epilog=TOURNAMENT_EXAMPLES)(tournament)
app.command("exploit", epilog=EXPLOIT_EXAMPLES)(exploit)
app.command("population", epilog=POPULATION_EXAMPLES)(population)


@app.command(
    epilog="""[bold]Examples[/bold]

comity play prisoners_dilemma --seats human,tit_for_tat

comity play trust_and_split --seats human,greedy game.length.cap=3

comity play chicken --seats run:runs/ipd-seed-0-20260131-120000,human --matches 2

comity play ultimatum --seats human,human
"""
)
def play(
    game: Annotated[
        str, typer.Argument(help="A game of `comity list games`, or an experiment.", metavar="GAME")
    ] = "",
    overrides: Overrides = None,
    seats: Annotated[
        str,
        typer.Option(
            help="One player per seat, comma-separated: human, a player of `comity list players`, "
            "base, or run:FOLDER (run:FOLDER@ITERATION:LEARNER for a checkpoint, or one of several "
            "learners).",
            metavar="SEATS",
        ),
    ] = "",
    matches: Annotated[int | None, typer.Option(help="Number of matches; default 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; random by default.")] = None,
) -> None:
    """Play a game yourself, in the terminal, against any player or trained run."""
    from comity.commands.play import play_game

    try:
        folder = play_game(game, seats, overrides or [], matches, seed)
    except KeyboardInterrupt as interrupt:
        raise StoppedByUserError("interrupted; nothing is recorded") from interrupt
    print(f"run: {folder} (for a report: comity report {folder})")


@app.command(epilog="Example:  comity report runs/ipd-* --output pages/ipd")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run or study folders.", metavar="RUN ...")],
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the page; default: the run's folder, for several a new one beside "
            "them.",
            metavar="DIR",
        ),
    ] = None,
) -> None:
    """Write a self-contained HTML report of one or more runs."""
    for folder in runs:
        if not folder.is_dir():
            raise ComityError(f"there is no run folder {folder}")
    if any(has_own_page(folder) for folder in runs):
        print(f"page: {report_alone(runs, output)}")
        return
    from comity import reports

    page, numbers = reports.build(runs, output)
    print(f"page: {page}\nnumbers: {numbers}")


@app.command(
    "list",
    epilog="""[bold]Examples[/bold]

comity list rewards

comity list experiments

comity list experiments robust small
""",
)
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="experiments, populations, agents, games, lengths, prompts, answers, rewards, "
            "players, algorithms, metrics, tournament_metrics, optimizers, adapters, "
            "opponent_pools, apis, models, engines, sinks, streams, or a group of published "
            "settings: moral/regime, moral/opponent, moral/version, negotiation/game, "
            "negotiation/method, negotiation/version; default: all.",
            metavar="KIND",
        ),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Filter: list only lines that contain all of these words.",
            metavar="WORD ...",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the available components, with a one-line description each."""
    from comity.commands.listing import catalog, show

    show(catalog(kind, words or ()), not words)


@app.command(
    epilog="""[bold]Examples[/bold]

comity bench

comity bench B --quick

comity bench A --model Qwen/Qwen3-0.6B --device cuda --output bench.jsonl
"""
)
def bench(
    workloads: Annotated[
        list[str] | None,
        typer.Argument(
            help="A (conversations), A-distinct (the same, few shared prefixes), B (one-shot "
            "prompts), B5 (episodes of the moral-alignment study), C (negotiations with messages), "
            "D (a tournament of scripted strategies), E (populations that choose their "
            "partners) or F (a tournament of language models); default: all.",
            metavar="WORKLOADS",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, as a smoke test.")] = False,
    model: Annotated[str, typer.Option(help="A model's name.", metavar="NAME")] = "smollm2-135m",
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16 or auto.", metavar="DTYPE")
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:N or auto.", metavar="DEVICE")
    ] = "auto",
    output: Annotated[
        Path | None, typer.Option(help="Also append the lines to this file.", metavar="FILE")
    ] = None,
) -> None:
    """Benchmark rollouts and training on this machine; one JSON line per workload."""
    from comity.commands.bench import main as measure

    measure(list(workloads or []), quick, model, dtype, device, output)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    occupy_standard_streams()
    with plain_warnings(), interrupts() as interrupted:
        try:
            check_command(given)
            code = app(
                [argument for argument in given if argument != "--debug"],
                prog_name="comity",
                standalone_mode=False,
            )
            if code == StoppedByUserError.exit_code:  # typer took the interrupt.
                code = _complain(StoppedByUserError("interrupted"))
        except Exception as error:
            if debug:
                raise
            explained = isinstance(error, ComityError) and error.exit_code == 130
            if interrupted and not explained:  # An interrupted library raises arbitrary errors.
                error = StoppedByUserError("interrupted")
            code = _complain(error, given)
    code = code if isinstance(code, int) else 0
    lost = flush_or_drop(sys.stdout)
    if lost is not None and lost.errno != errno.EPIPE:  # EPIPE: the reader closed the pipe.
        code = code or _complain(ComityError(f"cannot write to standard output: {lost.strerror}"))
    flush_or_drop(sys.stderr)
    end_process(code)
    return code


def _complain(error: Exception, given: Sequence[str] = ()) -> int:
    """Prints one line for an error and returns the exit code."""
    if isinstance(error, BrokenPipeError):
        return 0
    if isinstance(error, ComityError):
        text, code = str(error), error.exit_code
    elif isinstance(error, typer.Abort):
        text, code = "interrupted", 130
    elif hasattr(error, "format_message"):  # The errors of click, typer's parser.
        text, code = usage_fault(error, given), 2
    elif isinstance(error, OSError) and error.strerror:
        file = f" {error.filename}" if error.filename is not None else ""
        text, code = f"cannot read or write{file}: {error.strerror}", 1
    else:
        place = place_in_own_parts(error)
        whose = f"in {place}" if place else "a bug in Comity"
        text = f"{type(error).__name__}: {error} ({whose}; --debug shows the traceback)"
        code = 1
    # A mistake in the command is every rank's, too, and an interrupt comes to all of them.
    shared = getattr(error, "shared", False) or code in (2, 130)
    if shared and local_rank() > 0:
        return code
    text, *below = pointed_at(text)
    whose = f"rank {rank()}: " if world_size() > 1 and not shared else ""
    for line in (f"comity: {whose}{printable(text)}", *below):
        say(line, every_rank=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
