"""Long checks that are not done again as long as nothing has changed that goes into them.

A check has a digest of everything that its outcome depends on: what it looks at, who looks, and
what is expected. Once it has passed, ``make thorough`` keeps that digest under ``checked/``. With
any other digest the check is done in full, and ``make thorough`` does it in full whatever is kept.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..conftest import THOROUGH

KEPT = Path(__file__).with_name("checked")


def digest_of(parts: Iterable[str | bytes]) -> str:
    """A digest that changes with any part, with their order, and with where one ends."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)} ".encode() + data)
    return digest.hexdigest()


def has_passed(check: str, digest: str) -> bool:
    """Whether this very check has passed before, and need not be done again."""
    kept = KEPT / check
    return not THOROUGH and kept.exists() and kept.read_text().strip() == digest


def keep(check: str, digest: str) -> None:
    """Remember that a check has passed, if that was asked for."""
    if THOROUGH:
        (KEPT / check).write_text(digest + "\n")
