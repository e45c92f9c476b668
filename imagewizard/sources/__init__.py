"""Images from where they lie: files, members of tar shards, rows of Parquet."""
