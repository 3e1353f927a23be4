"""The config groups and the published experiments, one small YAML file each.

A file's first comment line is the sentence that `comity list` prints.
"""
