"""Doubles of vendors' servers: real HTTP on 127.0.0.1, with a state that changes between pages, and the vendors' own limits."""
