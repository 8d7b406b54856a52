"""Calls that there is no memory for, or no thread: an error, and nothing else has changed."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs


def in_a_process(script: str) -> str:
    """Run a script whose process may limit its memory; what it prints."""
    common = """
        import os, resource, signal, threading
        import torch
        from fastrnn.recurrence.ops import lstm_layer
        from fastrnn.recurrence.problem import LayerArgs

        MIB = 2**20

        def limit(room):
            '''Let the process have this much memory more than now, or all.'''
            pages = int(open("/proc/self/statm").read().split()[0])
            size = resource.RLIM_INFINITY if room is None else pages * resource.getpagesize() + room
            resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))

        def layer(T, B, I, H, seed=0):
            torch.manual_seed(seed)
            tensors = (torch.randn(T, B, I), torch.randn(1, 4 * H, I), torch.randn(1, 4 * H, H))
            return LayerArgs(*(t.requires_grad_() for t in tensors))
    """
    whole = textwrap.dedent(common) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", whole],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        # What is freed goes back to the system, so that the limit is on what is in use.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def monstrous(*sizes: int) -> Tensor:
    """A tensor of these sizes that takes the memory of one element."""
    return torch.zeros(1).expand(sizes)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sizes", [(10**6, 10**6, 4), (2**31, 2**29, 4)], ids=["huge", "overflow"])
def test_a_layer_over_more_than_all_memory_is_a_memory_error(
    sizes: tuple[int, int, int], training: bool
) -> None:
    weights = [torch.randn(1, 32, size).requires_grad_(training) for size in (4, 8)]
    before = [weight.detach().clone() for weight in weights]
    shape = r"x of shape \[" + ", ".join(map(str, sizes)) + r"\] through 8 hidden units"
    with pytest.raises(MemoryError, match=f"not enough memory for {shape}"):
        lstm_layer(LayerArgs(monstrous(*sizes), *weights), "cpu")
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))
    y, _, _ = lstm_layer(LayerArgs(torch.randn(3, 2, 4), *weights), "cpu")
    assert y.isfinite().all()


def test_weights_beyond_all_memory_are_a_memory_error() -> None:
    hidden = 10**6
    x = torch.zeros(1, 1, 4)
    args = LayerArgs(x, monstrous(1, 4 * hidden, 4), monstrous(1, 4 * hidden, hidden))
    with pytest.raises(MemoryError, match="1000000 hidden units"):
        lstm_layer(args, "cpu")


def test_under_any_limit_of_memory_forward_succeeds_or_changes_nothing() -> None:
    said = in_a_process("""
        args = layer(T=1, B=600_000, I=1, H=4)  # so many rows that their plan takes as much
        before = [t.detach().clone() for t in args[:3]]
        with torch.no_grad():
            want = lstm_layer(args, "cpu")
            for room in range(8 * MIB, 96 * MIB, 4 * MIB):
                limit(room)
                try:
                    got = lstm_layer(args, "cpu")
                except MemoryError as error:
                    print("torch" if "DefaultCPUAllocator" in str(error) else "core")
                else:
                    print("done")
                    assert all(torch.equal(a, b) for a, b in zip(got, want))
                    del got
                limit(None)
            assert all(torch.equal(a, b) for a, b in zip(args[:3], before))
            assert all(torch.equal(a, b) for a, b in zip(lstm_layer(args, "cpu"), want))
    """)
    assert {"core", "torch", "done"} == set(said.split())


def test_under_any_limit_of_memory_backward_succeeds_or_changes_nothing() -> None:
    said = in_a_process("""
        args = layer(T=1, B=600_000, I=1, H=4)
        leaves = args[:3]
        y = lstm_layer(args, "cpu")[0]
        grad = torch.randn_like(y)
        y.backward(grad, retain_graph=True)
        want = [t.grad.clone() for t in leaves]
        before = [t.detach().clone() for t in leaves]
        for room in range(8 * MIB, 96 * MIB, 4 * MIB):
            for leaf in leaves:
                leaf.grad = None
            limit(room)
            try:
                y.backward(grad, retain_graph=True)
            except MemoryError as error:
                limit(None)
                print("torch" if "DefaultCPUAllocator" in str(error) else "core")
                assert all(leaf.grad is None for leaf in leaves)
            else:
                limit(None)
                print("done")
                assert all(torch.equal(t.grad, g) for t, g in zip(leaves, want))
        assert all(torch.equal(a, b) for a, b in zip(leaves, before))
    """)
    assert {"core", "torch", "done"} == set(said.split())


def test_where_no_thread_can_be_started_the_caller_does_the_work() -> None:
    """In a child made by fork the kernels start threads of their own."""
    said = in_a_process("""
        torch.set_num_threads(4)
        args = layer(T=40, B=64, I=16, H=32)
        with torch.no_grad():
            want = lstm_layer(args, "cpu")
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            limit(4 * MIB)  # the stack of a thread takes 8; those that the parent had are there
            end = threading.Event()
            try:
                while True:
                    threading.Thread(target=end.wait, daemon=True).start()
            except RuntimeError:
                with torch.no_grad():
                    got = lstm_layer(args, "cpu")
            torch.set_num_threads(1)  # torch's own pool did not survive the fork
            os._exit(0 if all(torch.equal(a, b) for a, b in zip(got, want)) else 1)
        assert os.waitpid(child, 0)[1] == 0
        print("same")
    """)
    assert said.split() == ["same"]
