"""What the verifier says of programs, and how much work it had with them."""

from __future__ import annotations

from pathlib import Path

# How lines begin that follow the verifier's last word.
HOLLOW = ("processed ", "libbpf: prog ", "libbpf: failed to load", "libbpf: -- END", "-- END")


def relevant(log: str) -> str:
    """The end of a verifier log, from a few lines above the failing instruction on."""
    lines = log.splitlines()
    # Newer kernels (7.3) explain the failure at length below the line that older ones end with.
    reports = [i for i, line in enumerate(lines) if line.startswith("Verification failed")]
    start = reports[-1] - 10 if reports else len(lines) - 20
    return "\n".join(lines[max(start, 0) :])


def why(log: str) -> str:
    """The line of a log that says what was not liked; those after it say only that it failed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(HOLLOW)]
    return (telling or lines or [""])[-1]


def verified(program: int) -> int | None:
    """Instructions that the verifier walked through for a loaded program; None before Linux 5.16,
    which does not tell."""
    for line in Path(f"/proc/self/fdinfo/{program}").read_text().splitlines():
        name, _, text = line.partition(":")
        if name == "verified_insns":
            return int(text)
    return None
