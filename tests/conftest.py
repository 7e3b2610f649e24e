"""What holds for all tests."""

from __future__ import annotations

import hypothesis

# no test asserts a time: a busy machine is no fault
hypothesis.settings.register_profile("upkeep", deadline=None)
hypothesis.settings.load_profile("upkeep")
