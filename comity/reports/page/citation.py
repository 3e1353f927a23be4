"""What a reader needs to repeat or cite a run: provenance, a methods sentence, BibTeX."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from comity.reports.formats import counted, words
from comity.reports.loading.folders import ReportInputs, Run, flatten
from comity.reports.page.settings import merged, reward_words, rewards, settings

Json = dict[str, Any]

PROJECT = (
    "@software{comity,\n"
    "  title = {Comity: reinforcement learning and evaluation of language models in social "
    "dilemmas and negotiations},\n"
    "  author = {{Comity contributors}},\n"
    "  version = {VERSION},\n"
    "  license = {MIT}\n}"
)


def arxiv(key: str, title: str, authors: str, year: int, number: str) -> str:
    """BibTeX of a preprint."""
    return (
        f"@misc{{{key},\n  title = {{{title}}},\n  author = {{{authors}}},\n  year = {{{year}}},\n"
        f"  eprint = {{{number}}},\n  archivePrefix = {{arXiv}}\n}}"
    )


MORAL = arxiv(
    "tennant2024moral",
    "Moral Alignment for {LLM} Agents",
    "Tennant, Elizaveta and Hailes, Stephen and Musolesi, Mirco",
    2024,
    "2410.01639",
)
ROBUST = arxiv(
    "piche2025robust",
    "Learning Robust Social Strategies with Large Language Models",
    "Piche, Dereck and Muqeeth, Mohammed and Aghajohari, Milad and Duque, Juan and "
    "Noukhovitch, Michael and Courville, Aaron",
    2025,
    "2511.19405",
)
MYOPIC = (
    "@misc{myopic,\n  title = {Reinforcement Learning Leads to Myopic {LLM} Play in Social "
    "Dilemmas}\n}"
)
ALIGNMENT = arxiv(
    "duque2024advantage",
    "Advantage Alignment Algorithms",
    "Duque, Juan Agustin and Aghajohari, Milad and Cooijmans, Tim and Ciuca, Razvan and "
    "Zhang, Tianyu and Gidel, Gauthier and Courville, Aaron",
    2024,
    "2406.14662",
)
PPO = arxiv(
    "schulman2017ppo",
    "Proximal Policy Optimization Algorithms",
    "Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec and Klimov, Oleg",
    2017,
    "1707.06347",
)
PRESETS = {"moral": MORAL, "robust": ROBUST, "myopic": MYOPIC}
"""Papers by the folder that an experiment's name begins with."""
ALGORITHMS = {"advantage_alignment": ALIGNMENT, "ppo": PPO}
"""Papers by the algorithm's name."""
ALGORITHM_NAMES = {
    "reinforce": "REINFORCE",
    "ppo": "proximal policy optimization",
    "advantage_alignment": "Advantage Alignment",
    "exact": "the exact policy gradient",
}


def provenance(inputs: ReportInputs) -> Json:
    """What stands under `provenance` in summary.json.

    `command`, `config` (of the run or study that the page is in), `versions`, `dtype` and
    `device` as they were resolved, and for each run its folder, command and last iteration.
    """
    runs = list(inputs.runs)
    models = [_resolved(run.versions, run.config) for run in runs]
    first = runs[0].versions if runs else {}
    return {
        "command": inputs.versions.get("command") or first.get("command"),
        "dtype": merged([model.get("dtype") for model in models]) if models else None,
        "device": merged([model.get("device") for model in models]) if models else None,
        "models": {
            str(run.config["model"]["name"]): model_facts(model)
            for run, model in zip(runs, models, strict=True)
            if model
        },
        "versions": {k: v for k, v in first.items() if k not in ("models", "command", "resumed")},
        "runs": [_run(run, inputs, model) for run, model in zip(runs, models, strict=True)],
        "config": inputs.config or (runs[0].config if runs else {}),
    }


def model_facts(model: Json) -> Json:
    """What is known of a model, without where its folder is, which is of the machine."""
    return {key: value for key, value in model.items() if key not in ("folder", "beside")}


def _checkpoint(run: Run) -> int | None:
    """Iterations that the newest checkpoint has seen; None where there is none."""
    folder = run.path / "checkpoints"
    found = [int(p.name) for p in folder.glob("[0-9]*") if p.name.isdecimal() and p.is_dir()]
    return max(found, default=None)


def _run(run: Run, inputs: ReportInputs, model: Json) -> Json:
    own, first = dict(flatten(run.config)), dict(flatten(inputs.runs[0].config))
    inside = run.path.is_relative_to(inputs.folder)
    return {
        "policy": run.policy,
        "seed": run.seed,
        "folder": run.path.relative_to(inputs.folder).as_posix() if inside else run.path.name,
        "command": run.versions.get("command"),
        "last_iteration": run.iterations[-1],
        "checkpoint": _checkpoint(run),
        "model": model_facts(model),
        "config_differences": {
            key: own.get(key)
            for key in sorted(own.keys() | first.keys())
            if own.get(key) != first.get(key)
        },
        "iterations": run.config.get("iterations"),
        "resumed": run.versions.get("resumed", []),
    }


def _resolved(versions: Mapping[str, Any], config: Json) -> Json:
    """The model of a run as it was loaded; empty where the run does not say."""
    model = config.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    models = versions.get("models")
    found = models.get(name) if isinstance(models, dict) else None
    return found if isinstance(found, dict) else {}


def settings_yaml(config: Mapping[str, Any]) -> str:
    """The whole config as YAML, without how it was put together."""
    kept = {key: value for key, value in config.items() if key != "composition"}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True).strip()


def methods(
    found: Json, configs: Sequence[Json], policies: Sequence[str], seeds: Sequence[int]
) -> str:
    """Two sentences for a paper's methods section.

    `found`: the `provenance`; `configs`: of the runs. Where those differ, both values are given.
    """
    shown = settings(configs)
    trained = {reward_words(rewards(config)) for config in configs}
    keys = ("adapter", "algorithm", "optimizer", "model")
    config = {key: merged([one.get(key) or {} for one in configs]) for key in keys}
    algorithm = config.get("algorithm") or {}
    by = " and ".join(ALGORITHM_NAMES.get(name, name) for name in _names(algorithm))
    steps = (("discount", algorithm.get("discount")),
             ("learning rate", (config.get("optimizer") or {}).get("learning_rate")))  # fmt: skip
    adapter = config.get("adapter") or {}
    shape = (("rank", adapter.get("rank")), ("alpha", adapter.get("alpha")))
    where = " on ".join(words(found[key]) for key in ("dtype", "device") if found[key] is not None)
    named = f" ({', '.join(policies)})" if len(policies) > 1 else ""
    parts = [
        f"We trained {counted(len(policies), 'policy')}{named} with "
        f"{counted(len(seeds), 'seed')} {'each ' if len(policies) > 1 else ''}"
        f"({', '.join(map(str, seeds))})",
        f"LoRA adapters{_inside(shape)} of {(config.get('model') or {}).get('name')}"
        f"{f' in {where}' if where else ''}, by {by}{_inside(steps)}",
    ]
    if len(trained) == 1:
        parts[-1] += f" on the reward {trained.pop()}"
    length = [counted(shown[key], noun) for key, noun in LENGTH if shown.get(key) is not None]
    played = " of ".join([*length, words(shown.get("game", "a game"))])
    seats = words(shown.get("seats", []))
    return f"{': '.join(parts)}; {played}, with the seats {seats}. We used {_project(found)}."


LENGTH = (("iterations", "iteration"), ("matches", "match"))


def _names(block: Any) -> list[str]:
    """The name of a block, or those of all that runs have there."""
    return [str(one.get("name")) for one in block.get("differs", [block])]


def _inside(pairs: Sequence[tuple[str, Any]]) -> str:
    """(("rank", 16), ("alpha", None)): " (rank 16)"."""
    listed = ", ".join(f"{name} {words(value)}" for name, value in pairs if value is not None)
    return f" ({listed})" if listed else ""


def _project(found: Json) -> str:
    """The project's version and commit."""
    versions = found["versions"]
    revision = versions.get("revision")
    commit = f", commit {revision['commit'][:10]}" if isinstance(revision, dict) else ""
    return f"Comity {versions.get('comity') or ''}".strip() + commit


def bibtex(config: Json, version: str) -> str:
    """BibTeX of the project, of the preset's paper and of the algorithm's."""
    origin = config.get("composition") or {}
    preset = str(origin.get("name") or config.get("name") or "")
    entries = [PROJECT.replace("VERSION", version)]
    entries += [entry for folder, entry in PRESETS.items() if preset.startswith(folder)]
    arms = ((config.get("study") or {}).get("arms") or {}).values()
    written = " ".join([str((config.get("algorithm") or {}).get("name")), *map(str, arms)])
    named = [entry for name, entry in ALGORITHMS.items() if name in written]
    if "ad_align" in preset or "ad_align" in written:
        named.append(ALIGNMENT)
    return "\n\n".join(dict.fromkeys([*entries, *named]))


def evaluation_methods(found: Json) -> str:
    """A sentence for a paper's methods section, from generalization.json."""
    made = found["provenance"]
    games = ", ".join(map(str, found["games"]))
    return (
        f"We evaluated {counted(len(found['policies']), 'policy')} "
        f"({', '.join(found['policies'])}) on {games} with exact answer probabilities, in "
        f"{made['dtype']} on {made['device']}; label sets {', '.join(found['label_sets'])}; "
        f"{counted(found['questions'], 'question')}. We used {_project(made)}"
        f"{'' if found.get('extent', 'full') == 'full' else ' (a reduced set of questions)'}."
    )


def evaluation_bibtex(found: Json) -> str:
    """BibTeX of the project and of the study whose evaluation this is."""
    version = str(found["provenance"]["versions"].get("comity") or "")
    return "\n\n".join([PROJECT.replace("VERSION", version), MORAL])
