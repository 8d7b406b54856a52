"""``python -m benchmarks.gpu``: build, check, measure and profile on a machine with a GPU.

The command itself never touches the GPU. Each stage hands jobs to worker processes (`supervisor`,
`worker`), which answer with one JSON line each, so that a crash, a hang or the end of the time
loses one job at most.
"""
