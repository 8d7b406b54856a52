"""Jobs survive the workers that crash, hang, or never start."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.clock import Deadline
from benchmarks.gpu.supervisor import Job, Launch, Supervisor

# Talks like a worker, without torch, so that it starts at once.
WORKER = """
import json, os, sys, time
out = os.fdopen(int(sys.argv[-1]), "w")
def send(**message):
    out.write(json.dumps(message) + "\\n")
    out.flush()
if "never" in sys.argv:
    sys.exit("no module named anything")
send(event="ready")
for line in sys.stdin:
    job = json.loads(line)
    subject = job["params"].get("backend", "")
    if subject not in job["params"].get("skip", {}):
        send(event="at", subject=subject, step="run")
        if job["kind"] == "abort":
            print("RuntimeError: an illegal memory access was encountered", file=sys.stderr)
            sys.stderr.flush()
            os.abort()
        if job["kind"] == "hang":
            time.sleep(60)
        if job["kind"] == "poison":
            send(event="end", status="crashed", subject=subject, step="run", fatal=True)
            sys.exit(3)
    send(event="end", status="ok", pid=os.getpid())
"""


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    return Launch([sys.executable, str(script)], {}, tmp_path, tmp_path / "workers.log")


def run(launch: Launch, jobs: list[Job], **options: Any) -> tuple[list[dict[str, Any]], Supervisor]:
    records: list[dict[str, Any]] = []
    deadline = options.pop("deadline", Deadline.after(30))
    workers = options.pop("workers", 1)
    supervisor = Supervisor(launch, records.append, **options)
    supervisor.run([[job] for job in jobs], deadline, workers)
    return records, supervisor


def job(name: str, kind: str = "fine", backend: str = "triton", **params: Any) -> Job:
    return Job(name, kind, {"backend": backend, **params}, timeout=5.0)


def test_one_worker_serves_many_jobs(launch: Launch) -> None:
    records, _ = run(launch, [job(str(number)) for number in range(20)])
    assert [record["name"] for record in records] == [str(number) for number in range(20)]
    assert len({record["pid"] for record in records}) == 1


def test_a_crash_is_reported_and_the_next_job_still_runs(launch: Launch) -> None:
    records, _ = run(launch, [job("a"), job("b", "abort"), job("c")])
    assert [record["status"] for record in records] == ["ok", "crashed", "ok"]
    crash = records[1]
    assert crash["subject"] == "triton"
    assert crash["step"] == "run"
    assert crash["error"].startswith("ended by SIGABRT: RuntimeError: an illegal memory access")
    assert "illegal memory access" in crash["tail"]
    assert launch.log is not None
    assert "illegal memory access" in launch.log.read_text()


def test_a_job_that_hangs_is_ended_and_the_next_one_runs(launch: Launch) -> None:
    hanging = Job("a", "hang", {"backend": "triton"}, timeout=0.3)
    begin = time.monotonic()
    records, _ = run(launch, [hanging, job("b")])
    assert [record["status"] for record in records] == ["timeout", "ok"]
    assert time.monotonic() - begin < 20


def test_a_poisoned_worker_is_replaced(launch: Launch) -> None:
    records, _ = run(launch, [job("a"), job("b", "poison"), job("c")])
    assert [record["status"] for record in records] == ["ok", "crashed", "ok"]
    assert records[0]["pid"] != records[2]["pid"]


def test_who_crashes_too_often_is_left_out(launch: Launch) -> None:
    jobs = [job(str(number), "abort") for number in range(5)] + [job("other", backend="cudnn")]
    records, supervisor = run(launch, jobs)
    assert [record["status"] for record in records] == ["crashed"] * 3 + ["ok"]
    assert supervisor.banned == {"triton"}
    assert [left.name for left in supervisor.left_out] == ["3", "4"]


def test_a_crashed_job_can_be_done_again_without_the_culprit(launch: Launch) -> None:
    def again(old: Job, record: dict[str, Any]) -> Job | None:
        return old.with_params(skip={record["subject"]: "it crashed"})

    records, _ = run(launch, [job("a", "abort", skip={})], retry=again)
    assert [record["status"] for record in records] == ["crashed", "ok"]
    assert records[1]["params"]["skip"] == {"triton": "it crashed"}


def test_a_worker_that_never_starts_is_not_started_forever(launch: Launch) -> None:
    broken = Launch([*launch.command, "never"], {}, launch.folder)
    records, supervisor = run(broken, [job(str(number)) for number in range(5)])
    assert [record["status"] for record in records] == ["crashed", "crashed"]
    assert "no module named anything" in records[0]["error"]
    assert records[0]["step"] == "start of the worker"
    assert len(supervisor.left_out) == 3


def fail_to_start(launch: Launch, fail: range) -> None:
    """Let the workers of these numbers end at once, as where memory is short for a moment."""
    script = Path(launch.command[1])
    script.write_text(
        "import os\nfor n in range(99):\n    try: os.mkdir(f'{__file__}.{n}')\n"
        "    except FileExistsError: continue\n    break\n"
        f"if n in {fail!r}: raise SystemExit('no memory')\n" + WORKER
    )


def test_failed_starts_are_borne_where_a_worker_has_started_before(launch: Launch) -> None:
    fail_to_start(launch, range(1, 4))
    records, supervisor = run(launch, [job("a", "abort"), *(job(name) for name in "bcdef")])
    assert [record["status"] for record in records] == ["crashed"] * 4 + ["ok"] * 2
    assert supervisor.left_out == []


def test_some_failed_starts_do_not_stop_the_workers_that_start(launch: Launch) -> None:
    fail_to_start(launch, range(3))
    records, supervisor = run(launch, [job(str(number)) for number in range(12)], workers=4)
    assert [record["status"] for record in records].count("crashed") == 3
    assert [record["status"] for record in records].count("ok") == 9
    assert supervisor.left_out == []


@pytest.mark.parametrize("workers", [1, 3])
def test_records_that_cannot_be_kept_end_the_work_with_an_error(
    launch: Launch, workers: int
) -> None:
    def deliver(record: dict[str, Any]) -> None:
        if record["name"] == "b":
            raise OSError("no space left on device")

    supervisor = Supervisor(launch, deliver)
    jobs = [job("a"), job("b"), job("c"), job("d"), job("e")]
    with pytest.raises(OSError, match="no space left"):
        supervisor.run([jobs[:3], *([one] for one in jobs[3:])], Deadline.after(30), workers)
    left = {one.name for one in supervisor.left_out}
    assert {"b", "c"} <= left if workers > 1 else left == {"b", "c", "d", "e"}


def test_what_the_deadline_cuts_off_is_no_failure(launch: Launch) -> None:
    jobs = [Job("a", "hang", {}, timeout=60.0), job("b")]
    records, supervisor = run(launch, jobs, deadline=Deadline.after(0.6))
    assert [record["status"] for record in records] == ["not finished"]
    assert [left.name for left in supervisor.left_out] == ["b"]


def test_a_signal_ends_the_workers_too(launch: Launch) -> None:
    def stop(*_: object) -> None:
        raise SystemExit(1)

    records: list[dict[str, Any]] = []
    supervisor = Supervisor(launch, records.append)
    before = signal.signal(signal.SIGALRM, stop)
    begin = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(SystemExit):
            supervisor.run([[job("a", "hang")], [job("b")]], Deadline.after(30))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begin < 4
    assert [record["status"] for record in records] == ["not finished"]
    assert [left.name for left in supervisor.left_out] == ["b"]


def test_several_workers_share_the_queue(launch: Launch) -> None:
    jobs = [job(str(number), "abort" if number == 3 else "fine") for number in range(12)]
    records, _ = run(launch, jobs, workers=3)
    assert sorted(record["name"] for record in records) == sorted(str(n) for n in range(12))
    assert [r["status"] for r in records if r["name"] == "3"] == ["crashed"]
