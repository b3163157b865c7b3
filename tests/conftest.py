"""What holds for all tests: how long an example takes depends on the machine, and proves nothing."""

from hypothesis import settings

settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")
