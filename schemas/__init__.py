"""The contracts between producers, consumers and the dashboard. Pure: no client, no server, no I/O.

This package imports only value libraries. It says what a record, a row and a Redis entry look like.
"""
