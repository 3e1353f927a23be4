"""Comity: reinforcement learning and evaluation of language models in social dilemmas."""

import os

__version__ = "0.1.0"

# Threads of torch's OpenMP that wait for each other by spinning (its default) take the cores
# from those that work as soon as anything else runs on the machine: a training then was ten
# times slower on two cores. Threads that sleep at once are slow to wake (docs/performance.md).
# So they spin briefly and then sleep. Read once, when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
