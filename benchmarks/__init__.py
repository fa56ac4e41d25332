"""Each benchmark is one row of a table: what, rate, limit in the same run, peer, ratios and spread.

`make bench` runs all rows, and `make bench ROWS="sdk ingest.jsonl_to_kafka"` some of them: a row's name is
`module.function`, and a module's name stands for all its rows. A row is a public function of a module here
that has no parameters and returns a `Row`. A function that cannot run on this machine raises `Unmeasured`
with the reason.

Machines are shared and noisy, so only ratios within one run count: measure the parts and the whole in turn
(`interleaved`) and take the best of seven rounds.
"""
