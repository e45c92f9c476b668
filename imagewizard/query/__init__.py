"""SQL over the rows of runs."""

FORMATS = ("table", "csv", "json", "parquet")
TABLE_ROWS = 40
"""Rows of a table unless the user asks for more: a screenful; the others are counted."""
