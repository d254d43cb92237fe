"""What is said to be planned is what lies in a kernel where everything went well."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kmesh.abi.layout import ROW_SIZE, SLOT_SIZE
from kmesh.core.commands import ROW, SLOT, VERDICT
from kmesh.core.guard_differences import prints
from kmesh.tasks.planned import pieces
from tests.core.test_audit import POLICY, TABLES, Rig


def said(rig: Rig) -> Any:
    return orjson.loads(b"".join(pieces(rig.steer)))


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_as_it_was_written(table: str) -> None:
    rig = Rig()
    rows = {bytes.fromhex(k): bytes.fromhex(v) for k, v in said(rig)["tables"][table].items()}
    assert rows, "the mesh must fill every table"
    if table not in (SLOT, ROW):
        kernel = rig.kernel.tables[table]
        assert rows == (dict.fromkeys(kernel, b"") if table == VERDICT else kernel)
        return
    memory, size = (
        (rig.kernel.slots, SLOT_SIZE) if table == SLOT else (rig.kernel.rows, ROW_SIZE)
    )  # fmt: skip
    for key, value in rows.items():
        at = int.from_bytes(key, "little") * size
        assert bytes(memory[at : at + len(value)]) == value


def test_policies_have_fingerprints_that_change_with_them() -> None:
    rig = Rig()
    assert said(rig)["settled"]
    (found,) = said(rig)["sets"].values()
    assert found == prints([POLICY])
    assert found != prints([POLICY._replace(dry_run=True)])
    rig.steer.put_policies([(POLICY.key, None)])
    assert not said(rig)["settled"]
