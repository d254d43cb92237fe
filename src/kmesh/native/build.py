"""cffi build: every header here is declared to Python, every C file here is compiled.

A header holds plain declarations only (no preprocessor lines): cffi reads it, and so does C.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path("src/kmesh/native")
HEADERS = sorted(HERE.glob("*.h"))

ffi = FFI()
for header in HEADERS:
    ffi.cdef(header.read_text())
ffi.set_source(
    "kmesh._native",
    "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <sys/types.h>\n"
    + "".join(f'#include "{header.name}"\n' for header in HEADERS),
    sources=[str(path) for path in sorted(HERE.glob("*.c"))],
    include_dirs=[str(HERE), str(HERE.parent / "bpf_c")],
    libraries=["bpf"],
    # Vectorized copies of small structures wait for the stores before them: the scanner loses a
    # seventh of its speed.
    extra_compile_args=[
        "-O2",
        "-fno-tree-vectorize",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
    ],
    py_limited_api=True,
)
