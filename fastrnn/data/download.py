"""Fetching a file from the first of several mirrors that gives a good copy."""

import http.client
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

TIMEOUT = 20.0  # seconds without an answer after which a mirror is given up


def download(urls: Sequence[str], target: Path, check: Callable[[Path], object]) -> None:
    """Download a file, check it, and only then move it to its place.

    Parameters
    ----------
    urls
        Where it may be had, best first.
    target
        Where it goes; its folder is made if need be.
    check
        Called with the path of the downloaded copy; raises ValueError if that is not good.

    Raises
    ------
    ConnectionError
        If no mirror gave a good copy; names each and what went wrong.
    OSError
        If ``target`` can't be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    for url in urls:
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as copy:
            path = Path(copy.name)
        try:
            _copy(url, path)
            check(path)
        except (http.client.HTTPException, OSError, ValueError) as error:
            reason = str(error).replace(str(path), "the copy")
            failures.append(f"{url} ({reason or type(error).__name__})")
        else:
            path.chmod(0o644)  # the temporary file is for its owner only
            path.replace(target)
            return
        finally:
            path.unlink(missing_ok=True)
    raise ConnectionError(f"could not download {target.name}; tried {', '.join(failures)}")


def cache_folder() -> Path:
    """Find the user's cache folder for fastrnn, in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastrnn"


def _copy(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)
