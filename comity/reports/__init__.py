"""Reports: what the records say, as one self-contained page and one JSON file.

- `folders`: which runs there are in the folders that were given
- `tables`: the columns of the decision records as arrays
- `numbers`: everything that the page states, with intervals (the summary)
- `transcripts`: a compact, folded, sampled copy of the matches for the browser of transcripts
- `page`: the HTML page from a summary and transcripts
- `report`: `build`, which does all of it
"""

from comity.reports.build import build

__all__ = ["build"]
