"""Where events come from: real purchases and a simulated city; both speak to the rest through Kafka alone."""
