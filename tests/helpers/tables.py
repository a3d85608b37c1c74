"""Markdown tables without the spaces that align their columns."""

import re


def unpadded(table: object) -> str:
    """Returns a table with one space around each cell, and rules of three dashes."""
    return re.sub("-{2,}(?=:? \\|)", "---", re.sub(" +", " ", str(table)))
