"""Random worlds against the real engine: sources, people's hands, operators, faults, crashes, a full disk and clocks, by a seed.

Everything is real but time: the product's commands, HTTP on 127.0.0.1, SQLite. One world is three syncs over a handful of addresses,
one account under one reading of what FluenzR leaves open, and a script of changes, runs and what operators do. While it goes on, each
thing that the engine does to the account is judged; at the end the weather clears, and the account must be what the sources say.

I1  everybody who is wanted exists once, as wanted
I2  a run with nothing new sends nothing
I3  what is people's own stays
I4  who opted out is never created, enrolled or deleted; nor created who was absent when the state was rebuilt
I5  nobody is enrolled twice in a group; nobody at all who may have been before a rebuild
I6  nothing is orphaned
I7  the books balance, and a command fails only for a reason, and says it
I8  who was deleted by hand stays deleted
I9  who was forgotten is never there again, and leaves no trace in the state's files
I10 a plan changes nothing; reconcile sends nothing; undo and forget create and mail nobody; what was undone stays undone

    PYTHONPATH=tests python -m world FIRST COUNT      # many seeds; prints those that fail
    PYTHONPATH=tests python -m world --trace SEED     # everything that happens in one
"""

from world.model import KEY
from world.operators import STEP_KINDS
from world.script import live_one, one_certificate, small_limits
from world.weather import FAULT_KINDS

__all__ = ["FAULT_KINDS", "KEY", "STEP_KINDS", "live_one", "one_certificate", "small_limits"]
