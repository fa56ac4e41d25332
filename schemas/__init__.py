"""The contracts that producers, consumers and the dashboard meet at. Pure: no client, no server, no I/O.

Only value libraries are imported here; whoever wants to know what a record, a row or a Redis entry
looks like reads this package and nothing else.
"""
