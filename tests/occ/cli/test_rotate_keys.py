"""`occ rotate-keys` on a real server."""

import pytest

from integrations.connections.records import Records
from integrations.sealing.keyring import SealingKey
from tests.integrations.connections.test_rotation import connect
from tests.occ.cli.conftest import Occ

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]

OLD = SealingKey.generate()


@pytest.fixture
def both_keys(monkeypatch: pytest.MonkeyPatch, sealing_key: SealingKey) -> SealingKey:
    """The newest of two."""
    monkeypatch.setenv("OCC_SEALING_KEYS", f"{sealing_key.export()},{OLD.export()}")
    return sealing_key


def test_rotating_tells_how_many_were_sealed_anew(occ: Occ, records: Records, both_keys: SealingKey) -> None:
    for number in range(3):
        connect(records, f"m-{number}", key=OLD)
    ended = occ("rotate-keys", "--json")
    assert ended.exit_code == 0
    assert ended.object == {
        "newest_key_id": both_keys.key_id,
        "looked_at": 3,
        "resealed": 3,
        "unreadable": 0,
        "needed": {both_keys.key_id: 3},
    }
    again = occ("rotate-keys")
    assert again.stdout == f"0 sealed anew, 3 of 3 records under key {both_keys.key_id}.\n"


def test_a_key_is_not_retired_while_records_need_it(occ: Occ, records: Records, both_keys: SealingKey) -> None:
    for number in range(3):
        connect(records, f"m-{number}", key=OLD)
    refused = occ("rotate-keys", "--retire", OLD.key_id, "--json")
    assert (refused.exit_code, refused.error["code"]) == (2, "key_in_use")
    assert refused.error["remedy"].startswith("3 of 3 records need this key")
    occ("rotate-keys")
    retired = occ("rotate-keys", "--retire", OLD.key_id, "--json")
    assert retired.exit_code == 0
    assert retired.object == {"retired_key_id": OLD.key_id, "needed": {both_keys.key_id: 3}}


@pytest.mark.parametrize(("which", "code"), [("newest", "newest_key"), ("private", "unknown_key_id")])
def test_what_cannot_be_retired_is_refused_and_not_repeated(
    occ: Occ, both_keys: SealingKey, which: str, code: str
) -> None:
    typed = both_keys.key_id if which == "newest" else both_keys.export()
    refused = occ("rotate-keys", "--retire", typed, "--json")
    assert (refused.exit_code, refused.error["code"]) == (2, code)
    assert both_keys.export() not in refused.stdout + refused.stderr


def test_keys_nobody_can_open_need_attention(occ: Occ, records: Records, both_keys: SealingKey) -> None:
    connect(records, "m-1", key=SealingKey.generate())
    ended = occ("rotate-keys")
    assert ended.exit_code == 1
    assert ended.stderr == "1 cannot be opened by any active sealing key: m-1\n"
