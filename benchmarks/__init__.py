"""Every bar of stepstream as one table: what, rate, its limit in the same run, the peer, ratios, spread.

`make bench` runs all rows, `make bench ROWS="sdk ingest.jsonl_to_kafka"` some of them: a row's name is
`module.function`, and a module's name alone stands for all its rows. A row is a public function of a
module here that takes nothing and returns a `Row`; one that cannot run on this machine raises `Unmeasured`
with the reason.

Machines are shared and noisy, so only ratios taken in one run count: measure the parts and the whole in turn
(`interleaved`) and take the best of seven rounds.
"""
