"""`occ keygen` and `occ seal`: what they print is what settings and doors take. Neither needs a server."""

from pathlib import Path

import pytest

from integrations.sealing.keyring import Keyring, SealingKey
from tests.occ.cli.conftest import Occ


def test_a_generated_pair_opens_what_was_sealed_for_it(occ: Occ, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = occ("keygen", "--json").object
    assert set(pair) == {"key_id", "private_key", "public_key"}
    key = SealingKey.parse(pair["private_key"])
    assert (key.key_id, key.public_key) == (pair["key_id"], pair["public_key"])

    monkeypatch.setenv("OCC_SEALING_KEYS", pair["private_key"])
    sealed = occ("seal", "m-1", "--json", stdin=b"a.b.c").object
    assert (sealed["merchant_id"], sealed["key_id"]) == ("m-1", pair["key_id"])
    assert Keyring([key]).open(sealed["application_key"], "m-1") == "a.b.c"


def test_no_two_pairs_are_the_same(occ: Occ) -> None:
    assert occ("keygen", "--json").object != occ("keygen", "--json").object


def test_people_are_told_where_the_halves_belong(occ: Occ) -> None:
    told = occ("keygen").stdout
    assert "OCC_SEALING_KEYS" in told
    private = next(line.split()[-1] for line in told.splitlines() if line.startswith("Private key "))
    assert SealingKey.parse(private).public_key in told


def test_keys_are_sealed_with_the_newest_sealing_key(
    occ: Occ, monkeypatch: pytest.MonkeyPatch, application_key: str
) -> None:
    newest, older = SealingKey.generate(), SealingKey.generate()
    monkeypatch.setenv("OCC_SEALING_KEYS", f"{newest.export()},{older.export()}")
    ended = occ("seal", "m-1", stdin=f"{application_key}\n".encode())
    assert Keyring([newest]).open(ended.stdout.strip(), "m-1") == application_key
    assert (ended.exit_code, ended.stderr) == (0, "")


def test_the_embedded_set_up_makes_one_sealing_key_and_keeps_it(
    occ: Occ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OCC_DATA_DIR", str(tmp_path / "data"))
    first, second = (occ("seal", "m-1", "--json", stdin=b"a.b.c").object for _ in range(2))
    assert first["key_id"] == second["key_id"]


def test_without_a_sealing_key_nothing_is_sealed(occ: Occ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCC_REDIS_URL", "redis://127.0.0.1:1/0")
    ended = occ("seal", "m-1", stdin=b"a.b.c")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "OCC_SEALING_KEYS: required" in ended.stderr


def test_a_data_folder_that_cannot_be_made_is_told_with_the_remedy(occ: Occ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCC_DATA_DIR", "/proc/self/nothing")
    ended = occ("seal", "m-1", "--json", stdin=b"a.b.c")
    assert (ended.exit_code, ended.error["code"]) == (2, "bad_settings")
    assert "OCC_DATA_DIR" in ended.stderr


@pytest.mark.usefixtures("sealing_key")
def test_what_is_sealed_already_is_not_sealed_again(occ: Occ) -> None:
    for given in (b"sealed.v1.k.xyz", b'"sealed.v1.k.xyz"', b"'sealed.v1.k.xyz'\n", b"Bearer sealed.v1.k.xyz"):
        ended = occ("seal", "m-1", "--json", stdin=given)
        assert (ended.exit_code, ended.error["code"]) == (2, "already_sealed")


@pytest.mark.usefixtures("sealing_key")
def test_what_does_not_look_like_a_key_is_sealed_with_a_warning(occ: Occ) -> None:
    ended = occ("seal", "m-1", stdin=b"password1")
    assert ended.exit_code == 0
    assert ended.stdout.startswith("sealed.v1.")
    assert ended.stderr.startswith("Warning: this is not an application key")
    assert "password1" not in ended.stderr


@pytest.mark.usefixtures("sealing_key")
def test_nothing_is_not_sealed(occ: Occ) -> None:
    ended = occ("seal", "m-1", "--json", stdin=b"\n")
    assert (ended.exit_code, ended.error["code"]) == (2, "missing")
