"""The kinds of agents: fixed strategies, tabular and deep Q-learners, language models."""
