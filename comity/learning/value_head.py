"""The value head: a linear function of a language model's last hidden state."""

import torch


class ValueHead(torch.nn.Module):
    """A linear layer from hidden states to values; float32."""

    def __init__(self, width: int, dropout: float, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.linear = torch.nn.Linear(width, 1)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[N, H]` -> `[N]`."""
        values: torch.Tensor = self.linear(self.dropout(hidden.float())).squeeze(-1)
        return values
