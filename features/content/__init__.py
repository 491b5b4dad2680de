"""Items' titles, descriptions and photos as tokens of frozen encoders, stored once for each content hash."""
