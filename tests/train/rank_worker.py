"""One of several ranks that train the runs named on the command line, one after the other.

Arguments: a JSON list of lists of overrides of the experiment `ipd`. Prints their folders.
"""

import json
import sys

from comity.config.compose import compose
from comity.distributed.environment import rank
from comity.distributed.joining import joined
from comity.train import train


def main() -> None:
    import torch

    torch.set_num_threads(1)
    with joined():
        for changes in json.loads(sys.argv[1]):
            folder = train(compose("ipd", changes), report=False)
            if rank() == 0:
                print(folder, flush=True)


if __name__ == "__main__":
    main()
