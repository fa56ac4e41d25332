"""Everything that touches the outside world: settings, Kafka, registry, SQL, Redis, embedded servers, logs.

Clients are wrapped here and nowhere else; their errors become those of `schemas.errors` at this edge.
"""
