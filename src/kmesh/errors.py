"""Every error a user can meet: a code, a sentence and the next step."""

from __future__ import annotations


class KmeshError(Exception):
    """Base of all errors shown to users; ``str()`` is ``<code>: <sentence>. <next step>``."""

    code = "KM1000"
    next_step = "Run again with --log-level debug and read the lines above the error."

    def __init__(self, sentence: str, next_step: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        if next_step is not None:
            self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}. {self.next_step}"


class ConfigError(KmeshError):
    """An option has a value that cannot be used."""

    code = "KM1001"
    next_step = "See kmesh --help for what is allowed."


class MeshFileError(KmeshError):
    """A mesh file cannot be used; the sentence names line and key."""

    code = "KM1002"
    next_step = "Correct the file; the last good state stays in force."


class LabError(KmeshError):
    """The lab could not be built or used."""

    code = "KM1003"
    next_step = "Run kmesh lab down, then kmesh lab up."


class BpfError(KmeshError):
    """A BPF system call failed."""

    code = "KM1101"
    next_step = "Check that the agent runs as root with CAP_BPF and CAP_NET_ADMIN."

    def __init__(self, sentence: str, errno: int = 0, next_step: str | None = None) -> None:
        super().__init__(sentence, next_step)
        self.errno = errno


class ProgramRefused(BpfError):
    """The kernel's verifier refused a program; whatever was attached stays attached."""

    code = "KM1102"
    next_step = "Report the verifier lines above with `uname -r`; the old programs go on working."


class SwitchFailed(BpfError):
    """A program could not be put behind its link; every link has its old program again."""

    code = "KM1106"
    next_step = "See who else changes that link (bpftool link); then start the agent again."

    def __init__(self, sentence: str, errno: int = 0) -> None:
        super().__init__(f"{sentence}; all links keep their old programs", errno)


class NotCarried(BpfError):
    """What is pinned was made by another build and cannot be carried over; nothing was changed."""

    code = "KM1107"
    next_step = "Start the build that made it, or `kmesh uninstall` and enrol the pods again."


class MountError(BpfError):
    """bpffs or cgroup2 is not where it should be."""

    code = "KM1103"
    next_step = "Mount it, or name the right place with the option."

    def __init__(self, sentence: str, next_step: str | None = None) -> None:
        super().__init__(sentence, 0, next_step)


class AlreadyRunning(KmeshError):
    """Another daemon holds the pins."""

    code = "KM1104"
    next_step = "Stop that process first, or give this one another --bpf-fs-path."


class CapacityError(KmeshError):
    """A table would grow beyond its limit; nothing was written."""

    code = "KM1105"
    next_step = "Raise the limit named above and restart the agent: pins and traffic stay."

    def __init__(self, sentence: str, limit: int = 0) -> None:
        super().__init__(sentence)
        self.limit = limit
