"""Pages of tournaments and of exploit runs: `write_tournament_page` and `write_exploit_page`."""
