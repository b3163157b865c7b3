"""Everything that a person or a program reads from the command: words, tables, JSON, the progress bar.

text: where output goes and how numbers and times are written. plan, outcome, past, checks: one module a
kind of answer. progress: the bar on a terminal. Nothing here decides anything.
"""
