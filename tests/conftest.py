"""What holds for all tests: how long an example takes depends on the machine, and proves nothing."""

import os
from pathlib import Path

from hypothesis import settings

settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

# A folder without certificates: who speaks HTTPS here brings one, and reading the machine's takes each client 40 ms.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)
