"""Blocks of weights of which every rank holds a part, gathered when a rank needs one.

All ranks take part in an all-gather, but they need other blocks at other times: they play matches
of different lengths, and some have no work at all. So before every all-gather the ranks agree on
one block, by the minimum of one number of each:

- a rank that needs a block gives the block's place in a pass, and repeats that until its block is
  the one that is gathered (`need`);
- a rank that waits for the others in an exchange (`ProcessGroup`) has nothing to compute and takes
  part in their all-gathers, until no rank needs a block (`serve`).

Every all-gather serves at least the rank with the lowest place, so no order of passes on any rank
can leave the others waiting for ever. The lowest place first brings ranks into step: those that
are behind catch up, and from then on one all-gather serves all of them.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from comity.distributed.process_group import TorchProcessGroup, lost_rank

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

IDLE = 2**62
"""What a rank gives that needs no block."""


class BlockGathering:
    """The blocks of all sharded models; at most one of them is whole on this rank at a time."""

    def __init__(self) -> None:
        self._blocks: list[FSDPModule] = []
        self._forward: list[int] = []
        """By block: its place in a forward pass."""
        self._backward: list[int] = []
        """By block: its place in a backward pass, behind the model's forward pass."""
        self._at_place: list[int] = []
        """By place: the block."""
        self._whole: int | None = None
        self._gathered, self._seconds = 0, 0.0

    @staticmethod
    def of(ranks: TorchProcessGroup) -> "BlockGathering":
        """The one of these ranks; from the first call on they serve it while they wait."""
        if ranks.served is None:
            ranks.served = BlockGathering()
        assert isinstance(ranks.served, BlockGathering)
        return ranks.served

    def add(self, blocks: "Sequence[FSDPModule]") -> range:
        """Numbers of a model's blocks, given in the order of its forward pass.

        All ranks must add the same models in the same order before one needs a block.
        """
        first, start, count = len(self._blocks), len(self._at_place), len(blocks)
        numbers = range(first, first + count)
        self._blocks += blocks
        self._forward += range(start, start + count)
        self._backward += reversed(range(start + count, start + 2 * count))
        self._at_place += [*numbers, *reversed(numbers)]
        return numbers

    def need(self, block: int, backward: bool = False) -> None:
        """Make a block whole on this rank, and divide the one that was.

        Raises `LostRankError` if another rank ended.
        """
        if block == self._whole:
            return
        self.release()
        place = (self._backward if backward else self._forward)[block]
        began = time.perf_counter()
        try:
            while self._gather_lowest(place, block) != block:
                pass
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise lost_rank() from error
        self._seconds += time.perf_counter() - began

    def serve(self) -> None:
        """Take part in the all-gathers of other ranks until no rank needs a block."""
        self.release()
        while self._gather_lowest(IDLE) is not None:
            pass

    def release(self) -> None:
        """Divide the block that is whole: all weights are sharded."""
        if self._whole is not None:
            self._blocks[self._whole].reshard()
            self._whole = None

    def metrics(self) -> dict[str, float]:
        """Since the last call: all-gathers of blocks, and seconds that this rank needed them."""
        found = {"gathers": self._gathered, "gathering": self._seconds}
        self._gathered, self._seconds = 0, 0.0
        return found

    def _gather_lowest(self, place: int, needed: int | None = None) -> int | None:
        """Gather the block at the lowest place of all ranks; returns it, None if all are idle.

        It stays whole on this rank if it is `needed`.
        """
        lowest = torch.tensor([place])
        torch.distributed.all_reduce(lowest, torch.distributed.ReduceOp.MIN)
        if (found := int(lowest)) == IDLE:
            return None
        block = self._at_place[found]
        self._blocks[block].unshard()
        self._gathered += 1
        if block == needed:
            self._whole = block
        else:
            self._blocks[block].reshard()
        return block


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a sharded tensor; other tensors as they are."""
    divided: Any = tensor
    part: torch.Tensor = divided.to_local() if _is_divided(tensor) else tensor
    return part


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether weights of a model are divided among ranks."""
    return any(map(_is_divided, model.parameters()))


def _is_divided(tensor: Any) -> bool:
    return hasattr(tensor, "to_local")  # A DTensor, whose module not every build of torch has.
