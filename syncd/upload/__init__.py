"""The crash-safe upload: every change is committed as in flight, sent, and confirmed or read back.

pool: the HTTP threads. session: what the steps of one run share. rounds: the order of the steps. bulk, by_id: the writes.
readback: reading what is in flight. listing: reading the account. recover: after a crash or a lost answer.
"""
