"""The stored document as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from .build_log import told_of_cuda
from .plan import Cell
from .results import Document, Record, last_words, place
from .targets import verdicts

MAX_FAILURES = 60
MAX_KERNELS = 60
OLDER = " †"
TAIL_LINES = 12
ENVIRONMENT_KEYS = (
    *("device", "capability", "multiprocessors", "memory_bytes", "l2_bytes"),
    *("shared_memory_per_block", "driver", "sm_clock", "sm_clock_max", "power_limit", "torch"),
    *("cuda", "cudnn", "triton", "nvcc", "python", "cpu", "cores", "fastrnn", "commit", "date"),
    *("copy_gb_per_s", "matmul_tflops", "matmul_dtype", "plugin", "defines"),
)


def markdown(document: Document) -> str:
    """All sections that the document has something for."""
    latest = document["environment"]
    parts = [
        f"# fastrnn on {document['device']}",
        _environments(document["environments"]),
        _last_run(document),
        _build(document.get("build")),
        _failures(document["failures"]),
        _check(document.get("check")),
        _sanitizer(document.get("sanitize", {}), latest),
        _targets(document),
        _speed(document.get("cells", {}), document.get("kernels", {}), latest),
        _overhead(document.get("overhead", {}), latest),
        _kernels(document.get("kernels", {}), latest),
        _resources(document.get("resources", {}), latest),
        _counters(document.get("ncu", {}), latest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; no cell may break it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def microseconds(record: Record | None) -> str:
    """Microseconds per step with the ratio to torch, or why there is no time."""
    if record is None:
        return ""
    if record["status"] != "ok":
        return str(record["status"])
    text = f"{record['us_per_step']:.3g}" if "us_per_step" in record else "no time"
    if ratio := record.get("ratio"):
        text += f" **{ratio['p50']:.2f}x** ({ratio['p20']:.2f} to {ratio['p80']:.2f})"
    if record.get("chosen"):
        text += f" {record['chosen']}"
    return text


def peer_names(cells: Iterable[Record]) -> list[str]:
    """All peers, in the order in which they were measured."""
    names: dict[str, None] = {}
    for cell in cells:
        names.update(dict.fromkeys(cell["peers"]))
    # One that was measured on some cells only comes last.
    return sorted(names, key=lambda name: (name == "auto", name != "torch"))


def mark(record: Record | None, latest: str) -> str:
    """A sign where a result is older than the last run's environment."""
    return "" if record is None or record.get("environment") == latest else OLDER


def _environments(environments: dict[str, Record]) -> str:
    lines = [
        "## Environment",
        f"The last run's stands last; what was measured in another one has the sign{OLDER}.\n",
    ]
    for name, found in environments.items():
        values = [f"{key} {found[key]}" for key in ENVIRONMENT_KEYS if found.get(key) is not None]
        lines.append(f"- `{name}`: {', '.join(values) or 'unknown'}")
    return "\n".join(lines)


def _targets(document: Document) -> str:
    """By what was measured at the last run's commit: others had other kernels."""
    cells = document.get("cells", {})
    environments = document["environments"]
    commit = environments[document["environment"]].get("commit", "unknown")
    of_commit = {
        name: {**record, "peers": peers}
        for name, record in cells.items()
        if (
            peers := {
                peer: found
                for peer, found in record["peers"].items()
                if environments[found["environment"]].get("commit", "unknown") == commit
            }
        )
    }
    title, *lines = verdicts(of_commit) or ["targets", *["no cell was measured"] * bool(cells)]
    listed = [f"- {line}" for line in lines]
    return "\n".join([f"## {title.capitalize()}, at commit {commit}", *listed]) if lines else ""


def _last_run(document: Document) -> str:
    asked = [f"{key} {value}" for key, value in document["options"].items() if value]
    lines = ["## Last run", f"- asked for: {', '.join(asked) or 'unknown'}"]
    lines += [
        f"- incomplete: {text}" for texts in document["incomplete"].values() for text in texts
    ]
    lines += [f"- left out: {count} of {stage}" for stage, count in document["left_out"].items()]
    return "\n".join(lines)


def _build(build: Record | None) -> str:
    if build is None:
        return ""
    lines = [
        "## Build",
        f"{build['status']} after {build['seconds']} s: {', '.join(build['modules'])}",
    ]
    if told := told_of_cuda(build):
        machine = build.get("architectures")
        lines.append(told + (f"; for {machine} alone" if machine else ""))
    if build.get("resources"):
        columns = ("kernel", "target", "registers", "spills", "stack", "shared")
        rows = [[entry.get(c, "") for c in columns] for entry in build["resources"]]
        lines.append(table(columns, rows))
    if build["status"] != "ok":
        lines.append(f"{build['error']}\n\n```text\n{build['tail']}\n```")
    return "\n\n".join(lines)


def _failures(failures: list[Record]) -> str:
    if not failures:
        return "## Failures\n\nNone."
    lines = [f"## Failures ({len(failures)})"]
    for found in failures[:MAX_FAILURES]:
        lines.append(f"- **{found['status']}**{place(found)}: {found['name']}")
        lines += [f"  - {_plain(text)}" for text in found["errors"][:4] if text]
        if found["status"] in ("error", "crashed", "timeout") and found["tail"]:
            tail = last_words(found["tail"], TAIL_LINES)
            indented = "\n".join(f"    {line}" for line in tail)
            lines.append(f"\n    ```text\n{indented}\n    ```\n")
    if len(failures) > MAX_FAILURES:
        lines.append(f"- and {len(failures) - MAX_FAILURES} more in the JSON file")
    return "\n".join(lines)


def _check(check: Record | None) -> str:
    if check is None:
        return ""
    header = (
        *("backend", "precision", "cases", "how they ended", "largest share", "in", "skipped"),
        *("of", "environment"),
    )
    rows = []
    for row in check["rows"]:
        statuses = ", ".join(f"{count} {status}" for status, count in row["statuses"].items())
        reasons = "; ".join(f"{count}: {why}" for why, count in row["skipped"].items())
        worst = [row.get("worst", ""), row.get("worst_case", "")]
        share = f"{worst[0]:.2f}" if isinstance(worst[0], float) else worst[0]
        part = "all cases" if row["whole"] else f"some cases {row['filter']}".rstrip()
        ended = [row["backend"], row["precision"], row["cases"], statuses, share, worst[1]]
        rows.append([*ended, reasons, f"{part}, seed {row['seed']}", row["environment"]])
    lines = [
        "## Correctness",
        "Against float64 on the CPU. The largest share is that of the allowed error which a "
        "result used. A check of some cases stands below that of all.",
        table(header, rows),
    ]
    for precision, chosen in check["decisions"].items():
        texts = ", ".join(f"{size}: {name}" for size, name in chosen.items())
        lines.append(f"- auto in {precision}: {texts}")
    return "\n\n".join(lines)


def _sanitizer(runs: dict[str, Record], latest: str) -> str:
    if not runs:
        return ""
    rows, texts = [], []
    for name, record in runs.items():
        findings = record.get("findings", [])
        told = f"{len(findings)} findings" if findings else record.get("reason", "")
        outcome = [record["status"], told, record.get("problems", "")]
        rows.append([name + mark(record, latest), *outcome, record.get("in_other_kernels", "")])
        for found in findings:
            lines = "\n".join(f"    {line}" for line in found["lines"])
            texts.append(f"`{found['kernel']}`, {name}, {found['problem']}:\n\n{lines}")
    header = ("run", "how it ended", "", "problems", "left out, as of other kernels")
    return "\n\n".join(["## Compute-sanitizer", table(header, rows), *texts])


def _speed(cells: dict[str, Record], kernels: dict[str, Record], latest: str) -> str:
    if not cells:
        return ""
    groups: defaultdict[str, list[tuple[Cell, Record]]] = defaultdict(list)
    for record in cells.values():
        cell = Cell(**record["cell"])
        groups[f"{cell.precision}, {cell.mode}"].append((cell, record))
    lines = [
        "## Speed",
        "Microseconds per time step, median; in bold the ratio to `torch.nn.LSTM`, round by "
        "round, with its 20th and 80th percentile. Packed: lengths from T/8 to T, for torch with "
        "packing and unpacking. Peak memory is what a call takes besides its inputs and weights.",
    ]
    for group, members in groups.items():
        names = peer_names(record for _, record in members)
        header = ["shape", *names, "peak MB", "torch's kernel"]
        rows = []
        for cell, record in sorted(members, key=lambda member: _by_size(member[0])):
            peers = record["peers"]
            peaks = ", ".join(
                f"{name} {peers[name]['peak_mb']:.4g}"
                for name in names
                if name in peers and peers[name].get("peak_mb") is not None
            )
            found = [microseconds(peers.get(n)) + mark(peers.get(n), latest) for n in names]
            kernel = longest_kernel(kernels.get(cell.kernel_class), "torch")
            rows.append([cell.shape, *found, peaks, kernel])
        lines += [f"### {group}", table(header, rows)]
    return "\n\n".join(lines)


def longest_kernel(record: Record | None, peer: str) -> str:
    """The kernel of a peer that ran longest, with its share of the time."""
    kernels = ((record or {}).get("peers", {}).get(peer) or {}).get("kernels")
    return f"`{kernels[0]['kernel']}` ({kernels[0]['share']:.0%})" if kernels else ""


def _by_size(cell: Cell) -> tuple[int, ...]:
    return (cell.hidden_size, cell.input_size, cell.batch_size, cell.seq_len)


def _overhead(overhead: dict[str, Record], latest: str) -> str:
    columns = ("forward_us", "forward_backward_us")
    rows = [
        [record["precision"], name + mark(peer, latest), *(peer.get(c, "") for c in columns)]
        for record in overhead.values()
        for name, peer in record.get("peers", {}).items()
        if peer.get("status") == "ok"
    ]
    if not rows:
        return ""
    header = ("precision", "", "forward, µs", "forward+backward, µs")
    return "## Cost of a call (T=1, B=1, H=32)\n\n" + table(header, rows)


def _kernels(kernels: dict[str, Record], latest: str) -> str:
    lines = []
    for name, record in kernels.items():
        if not name.startswith("profile: "):
            continue
        rows: list[list[Any]] = []
        for peer, found in record.get("peers", {}).items():
            if found.get("status") != "ok":
                continue
            whole = f"{found['wall_us_per_step']} wall, {found['busy_us_per_step']} busy"
            rows.append([f"**{peer}**{mark(found, latest)}", whole, "", ""])
            rows += [
                [k["kernel"], k["us_per_step"], f"{k['share']:.1%}", k["launches_per_call"]]
                for k in found["kernels"]
            ]
        header = ("kernel", "µs per step", "share", "launches per call")
        told = f"{record['reason']}\n\n" if record.get("reason") else ""
        lines.append(f"### {name.removeprefix('profile: ')}\n\n{told}{table(header, rows)}")
    return "\n\n".join(["## Where the time goes", *lines]) if lines else ""


def _resources(resources: dict[str, Record], latest: str) -> str:
    kernels = [
        {**entry, "kernel": entry["kernel"] + mark(record, latest)}
        for record in resources.values()
        for entry in record.get("kernels", [])
    ]
    if not kernels:
        return ""
    columns = ("kernel", "target", "warps", "registers", "spills", "shared", "variant")
    rows = [[entry.get(column, "") for column in columns] for entry in kernels[:MAX_KERNELS]]
    more = len(kernels) - len(rows)
    told = [f"{more} more in the JSON file"] if more else []
    return "\n\n".join(["## Triton's kernels", table(columns, rows), *told])


def _counters(counters: dict[str, Record], latest: str) -> str:
    lines = []
    for key, record in counters.items():
        name = key + mark(record, latest)
        if launches := record.get("launches"):
            columns = list(dict.fromkeys(key for launch in launches for key in launch))
            rows = [[launch.get(column, "") for column in columns] for launch in launches]
            lines.append(f"### {name}\n\n{table(columns, rows)}")
        else:
            lines.append(f"{name}: {record.get('reason', 'nothing')}")
    return "\n\n".join(["## Hardware counters", *lines]) if lines else ""


def _plain(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
