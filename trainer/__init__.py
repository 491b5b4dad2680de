"""Which model explains it: batches, embeddings, models, training, evaluation, gate, bundle."""
