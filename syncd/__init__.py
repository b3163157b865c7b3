"""fluenzr-syncd: keeps FluenzR equal to a CRM, a file or a database, and mails nobody by mistake.

The flow of a contact: read (`connectors`) -> map -> diff -> guard (`core`) -> upload -> record (`state`).
`run.py` is the one place where they meet.
"""

__version__ = "0.1.0"
