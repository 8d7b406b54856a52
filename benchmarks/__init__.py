"""Benchmarks: correctness first, then speed, side by side, stored under results/."""
