"""The libraries: each file knows one, and is imported only where that is installed.

A file has a class per peer, made from a `Work`, with three methods:

- ``prepare()`` does what a library does once for a shape: it builds or compiles;
- ``run()`` is what is timed: one call, finished when it returns;
- ``results(output)`` gives what `run` returned, and the gradients, as numpy arrays: ``y
  [T, B, D*H]``, and in training ``grad w_ih``, ``grad w_hh`` and ``grad bias``, as in `Work`.

Making an object holds weights and inputs in the library's own form; that is not timed.
"""
