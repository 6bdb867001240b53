"""How many examples a law looks at that needs more, or can do with fewer, than the profile says."""

import hypothesis


def examples(of_a_full_run: int) -> int:
    """As many in a full run; `run test quick` looks at a quarter, and HYPOTHESIS_PROFILE=long at a hundred times."""
    return max(1, of_a_full_run * hypothesis.settings().max_examples // 100)
