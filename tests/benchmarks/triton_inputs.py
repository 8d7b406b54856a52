"""Prints what goes into the compiled Triton kernels, and compiles a few of them.

A program of its own, as in the tests' process Triton's interpreter stands for its compiler.
"""

import json
import platform
from collections.abc import Iterator
from importlib import metadata
from itertools import cycle
from pathlib import Path

from triton import knobs
from triton.runtime.cache import FileCacheManager

from benchmarks import triton_resources
from benchmarks.triton_resources import CAPABILITIES, Variant, compile_variant, measure, variants


class Asked(Exception):  # noqa: N818
    """Triton looked for a kernel in its cache."""


class NoCache(FileCacheManager):
    """Tells by which key Triton would take a compiled kernel for the one that is asked for."""

    def __init__(self, key: str, **_: object) -> None:
        raise Asked(key)


def cache_key(variant: Variant) -> str:
    """Triton's own digest of source, constants, options, target, compiler and environment."""
    try:
        compile_variant(variant)
    except Asked as asked:
        return str(asked)
    raise RuntimeError("Triton compiled without a look into its cache")


def compilers() -> Iterator[str]:
    """Who compiles and who reads the result: Triton with the programs in it, and this project."""
    yield platform.python_version()
    for file in sorted(metadata.files("triton") or (), key=str):
        # Not the scripts, which name the environment that they are in.
        if file.hash and file.parts[0] == "triton":
            yield f"{file} {file.hash.value}"
    for tool in ("ptxas", "cuobjdump", "nvdisasm"):
        yield str(getattr(knobs.nvidia, tool).version)
    yield Path(triton_resources.__file__).read_text()


def sample(todo: list[Variant]) -> list[Variant]:
    """One variant of each kernel in each arithmetic, for one GPU after the other."""
    groups: dict[tuple[str, str, bool], dict[int, Variant]] = {}
    for variant in todo:
        group = groups.setdefault((variant.kind, variant.dtype, variant.allow_tf32), {})
        group.setdefault(variant.capability, variant)
    return [
        group[capability]
        for group, capability in zip(groups.values(), cycle(CAPABILITIES), strict=False)
    ]


def main() -> None:
    todo = [variant for capability in CAPABILITIES for variant in variants(capability)]
    compiled = measure(sample(todo), jobs=1)
    knobs.cache.manager_class = NoCache
    inputs = [*compilers(), *(f"{variant.name} {cache_key(variant)}" for variant in todo)]
    print(json.dumps({"inputs": inputs, "sample": compiled}))


if __name__ == "__main__":
    main()
