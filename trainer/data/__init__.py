"""From a window's Parquet files to batches: schema, vocabularies, bucket edges, thinning, order."""
