"""The state: one SQLite file beside the configuration, with all SQL of the product.

store: the file, its lock, its transactions. reads: walking source and state side by side. links: records to contacts.
contacts: what FluenzR has. ledger: what must never happen. groups: FluenzR's groups. runs: history and held changes.
story: the questions of `status`, `history` and `why`.
"""
