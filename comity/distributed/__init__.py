"""Several processes ("ranks") that train one run together; knows PyTorch's processes only."""
