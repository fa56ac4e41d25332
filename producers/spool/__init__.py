"""The spool: a stream's lines on disk until Kafka has acknowledged them."""
