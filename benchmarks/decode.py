"""What does the start-up set cost between socket and planner?

100,000 workloads and 5,000 services (about 52 MB) as one response and as 27, in pieces of 128 KiB:
the C scan alone, with what the daemon keeps (workloads in C, services as rows), and with everything
as rows. The peer, on the same bytes in the same
run, is Google's C parser (upb) in two ways: the whole response in one call to typed messages (no
Python in between), and as a client would use it, one call per resource.

CPU is that of the thread within the parser's calls, without reading the file. Every case runs in a
process of its own, so that its peak memory is its own (of the first, cold run); the runs take turns
and the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import dataset, harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE = 128 << 10
CHUNK = 4000  # resources per response when there are several
PROTOS = Path(__file__).resolve().parent.parent / "protos"
TYPED = """
syntax = "proto3";
package typed;
import "istio/workload/workload.proto";
message Response { repeated Resource resources = 2; string type_url = 4; string nonce = 5; }
message Resource { string version = 1; Any resource = 2; string name = 3; }
message Any { string type_url = 1; istio.workload.Address value = 2; }
"""


def pieces(path: Path) -> Iterator[bytes]:
    """A response as the socket gives it."""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def scan(paths: list[Path]) -> dict[str, Any]:
    """The C scan alone."""
    from kmesh.wire.scanner import RECORD, Buffers, Scan

    buffers, calls, records = Buffers(), harness.Calls(), 0
    for path in paths:
        one = Scan(buffers)
        for piece in pieces(path):
            with calls:
                for batch in one.feed(piece):
                    records += len(batch.records) // RECORD.size
        one.finish()
    return {"found": records - 2 * len(paths), "calls": calls}


def rows(paths: list[Path], freeze: bool) -> dict[str, Any]:
    """Scan and rows, all kept by name."""
    from kmesh.wire.discovery import Decoder, ResponseReader

    decoder, calls = Decoder(), harness.Calls()
    kept: dict[str, Any] = {}
    for path in paths:
        reader = ResponseReader(decoder)
        for piece in pieces(path):
            with calls:
                found = reader.feed(piece)
            kept.update([(row.name, row) for row in found])
            if freeze:
                gc.freeze()
        reader.finish()
    if freeze:
        gc.unfreeze()
    return {"found": len(kept), "calls": calls}


def mesh(paths: list[Path]) -> dict[str, Any]:
    """Scan, workloads kept and indexed in C, services as rows: as the daemon does."""
    from kmesh.wire.discovery import Decoder, ResponseReader
    from kmesh.wire.mesh import Mesh
    from kmesh.wire.parts import Parts

    held, calls = Mesh(Parts()), harness.Calls()
    decoder, kept = Decoder(held), dict[str, Any]()
    for path in paths:
        reader = ResponseReader(decoder)
        for piece in pieces(path):
            with calls:
                kept.update([(row.name, row) for row in reader.feed(piece)])
        reader.finish()
    return {"found": len(kept) + len(held.workloads), "calls": calls}


def _messages(folder: Path) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    (folder / "typed.proto").write_text(TYPED)
    out = folder / "set"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{folder}"]
    command += ["--include_imports", f"--descriptor_set_out={out}", "typed.proto"]
    command += ["envoy/service/discovery/v3/discovery.proto"]
    subprocess.run(command, check=True)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return pool


def upb(paths: list[Path], classes: dict[str, Any], per_resource: bool) -> dict[str, Any]:
    """Google's parser; messages are dropped as soon as they are parsed."""
    found, calls = 0, harness.Calls()
    for path in paths:
        data = path.read_bytes()
        with calls:
            if per_resource:
                response = classes["response"].FromString(data)
                parse = classes["address"].FromString
                for one in response.resources:
                    parse(one.resource.value)
            else:
                response = classes["typed"].FromString(data)
        found += len(response.resources)
    return {"found": found, "calls": calls}


def _case(name: str, folder: Path) -> Callable[[list[Path]], dict[str, Any]]:
    if name == "scan":
        return scan
    if name == "mesh":
        return mesh
    if name.startswith("rows"):
        return lambda paths: rows(paths, name == "rows, frozen")
    from google.protobuf import message_factory

    pool = _messages(folder)
    kinds = {
        "response": "envoy.service.discovery.v3.DeltaDiscoveryResponse",
        "address": "istio.workload.Address",
        "typed": "typed.Response",
    }
    classes = {
        key: message_factory.GetMessageClass(pool.FindMessageTypeByName(full))
        for key, full in kinds.items()
    }
    return lambda paths: upb(paths, classes, name == "upb, each")


CASES = ("upb", "upb, each", "scan", "mesh", "rows", "rows, frozen")


def child(name: str, folder: Path, files: list[Path]) -> None:
    """Measure one case once per line on standard input; JSON lines to standard output."""
    work = _case(name, folder)
    work(files[:0])  # imports
    base = harness.peak_rss()
    for _ in sys.stdin:
        gc.collect()
        done = work(files)
        calls = done.pop("calls")
        done |= {"cpu_s": calls.total, "longest_ms": 1000 * calls.longest}
        done |= {"rss_base": base, "rss_peak": harness.peak_rss()}
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


def measure(folder: Path, files: list[Path], repeat: int) -> dict[str, dict[str, Any]]:
    """All cases over the same files, in turn, so that a slow minute of the machine hits all."""
    with contextlib.ExitStack() as stack:
        children = {}
        for name in CASES:
            command = [sys.executable, "-m", "benchmarks.decode", "--case", name]
            command += ["--folder", str(folder), *map(str, files)]
            pipe = subprocess.PIPE
            child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
            children[name] = stack.enter_context(child)
        rounds = [{name: _ask(one) for name, one in children.items()} for _ in range(repeat + 1)]
    results: dict[str, dict[str, Any]] = {}
    for name in CASES:
        first, runs = rounds[0][name], [one[name] for one in rounds[1:]]
        ratios = [one[name]["cpu_s"] / one["upb"]["cpu_s"] for one in rounds[1:]]
        results[name] = first | {
            "cpu_s": harness.median([one["cpu_s"] for one in runs]),
            "cpu_s_all": [one["cpu_s"] for one in runs],
            "longest_ms": harness.median([one["longest_ms"] for one in runs]),
            "ratio": harness.median(ratios),
        }
    return results


def _ask(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def report(kind: str, results: dict[str, dict[str, Any]]) -> None:
    """The table of one way of sending."""
    lines = [
        [
            name,
            f"{one['cpu_s']:.3f}",
            f"{1e6 * one['cpu_s'] / one['found']:.2f}",
            f"{one['ratio']:.2f}",
            f"{one['longest_ms']:.1f}",
            f"{one['rss_base'] / 1e6:.0f}",
            f"+{(one['rss_peak'] - one['rss_base']) / 1e6:.0f}",
        ]
        for name, one in results.items()
    ]
    columns = ["case", "CPU s", "us each", "x upb", "longest call ms", "base MB", "peak MB"]
    harness.show(f"decode: {kind}", columns, lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument("--services", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("files", type=Path, nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        child(args.case, args.folder, args.files)
        return
    entries = list(dataset.mesh(args.workloads, args.services))
    ways = {"one response": len(entries), "several responses": CHUNK}
    results: dict[str, Any] = {}
    for kind, size in ways.items():
        with tempfile.TemporaryDirectory() as name:
            files = []
            for index, body in enumerate(dataset.responses(entries, size)):
                files.append(Path(name) / f"{index:03d}")
                files[-1].write_bytes(body)
            total = sum(file.stat().st_size for file in files)
            found = measure(Path(name), files, args.repeat)
            report(
                f"{len(entries):,} resources, {total / 1e6:.1f} MB, {len(files)} x {kind}", found
            )
            results[kind] = {"bytes": total, "responses": len(files), "cases": found}
    print(harness.save("decode", results))


if __name__ == "__main__":
    main()
