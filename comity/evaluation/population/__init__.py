"""From a population's records to numbers with intervals over runs: `summary.summarize`."""
