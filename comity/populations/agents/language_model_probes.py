"""Exact probabilities of a population's language models, outside of any episode.

The same questions are asked at every call, so that differences between two calls are the policies'.
Nothing is drawn for answers, and nothing of the group changes.
"""

import numpy as np

from comity.populations.agents.language_model import LanguageModelAgents
from comity.populations.agents.language_model_answers import AnswerSampler
from comity.populations.base import COOPERATE

PROBE = "probe"
"""In the names of the streams of labels and orders."""


def selection_probabilities(
    group: LanguageModelAgents, latest: np.ndarray, questions: int = 8
) -> np.ndarray:
    """Probability that each agent selects each other one, float64 `[R, A, N]`; itself: 0.

    `latest`, int `[N]`: the moves on display. The mean over questions with other labels and orders.
    """
    places, asked = [], []
    for run, place, member in group.everyone():
        for number in range(questions):
            stream = group.questions.stream(run, place, PROBE, number)
            places.append((run, place))
            asked.append(group.questions.selection(member, place, np.asarray(latest), stream))
    found = np.zeros((group.runs, len(group.agents), len(latest)))
    sampler = AnswerSampler()
    answers = sampler.probabilities([one.question for one in asked])
    for (run, place), one, probabilities in zip(places, asked, answers, strict=True):
        found[run, place, one.candidates] += probabilities / questions
    sampler.forget()
    return found


def cooperation_probabilities(group: LanguageModelAgents, questions: int = 4) -> np.ndarray:
    """P(C | own latest move, partner's latest move), float64 `[R, A, 2, 2]`.

    The mean over variants of the prompt.
    """
    places, asked = [], []
    for run, place, member in group.everyone():
        for number in range(questions):
            # One stream for all states: the same variant of the prompt.
            stream = group.questions.stream(run, place, PROBE, number)
            for own in (0, 1):
                for other in (0, 1):
                    places.append((run, place, own, other))
                    asked.append(group.questions.dilemma(member, 0, (own, other), stream))
    found = np.zeros((group.runs, len(group.agents), 2, 2))
    sampler = AnswerSampler()
    for where, one in zip(places, sampler.probabilities(asked), strict=True):
        found[where] += one[COOPERATE] / questions
    sampler.forget()
    return found
