"""The page of a population, and the page that compares several."""

from comity.reports.population.comparison_page import write_comparison
from comity.reports.population.page import write_page

__all__ = ["write_comparison", "write_page"]
