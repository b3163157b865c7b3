"""The sandbox: a FluenzR-compatible server, for the demo, for trying a configuration, for tests.

It is written from the FluenzR reference alone, never from our client, so that each can prove the
other wrong. Where the reference is silent, `Quirks` reads each [?] either way; `Faults` loses and
breaks answers; the outbox shows who would have been mailed.

    with Sandbox(clock=clock, quirks=Quirks(sort="ignored")).serve() as sandbox:
        sandbox.account.add_group("Customers", dynamic=True)
        ...  # a client at sandbox.url
        assert sandbox.account.mailed() == ["ann@example.com"]
"""

from syncd.sandbox.faults import Faults, Rule
from syncd.sandbox.people import Account
from syncd.sandbox.quirks import Quirks, draw, readings
from syncd.sandbox.server import Sandbox
from syncd.sandbox.store import Mail

__all__ = ["Account", "Faults", "Mail", "Quirks", "Rule", "Sandbox", "draw", "readings"]
