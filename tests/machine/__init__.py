"""A machine of rules that does to the engine what a year of production does, and a plain model of what must come of it.

`model` says what is true, in dicts; `judge` holds each request and the account against it; `premises` has the files, the
sandbox, time and the weather; `ledger` knows what may be held against somebody; `rules` are the steps that hypothesis puts together.
"""
