"""What tests of every room share: real data and networks that stand beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder ../shared/data beside the repository; skips where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip("../shared/data is absent: real data and networks are not part of the repository")
    return _SHARED
