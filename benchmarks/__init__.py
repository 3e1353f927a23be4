"""Speed comparisons of Comity with other libraries; not part of the package."""
