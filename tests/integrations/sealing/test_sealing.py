import base64
import copy
import json
import pickle
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.public import PrivateKey, PublicKey, SealedBox

from integrations.errors import RequestRefused
from integrations.sealing.keyring import MAX_SEALED_LENGTH, Keyring, SealingKey, seal

KEY = SealingKey.generate()
OLDER = SealingKey.generate()
KEYRING = Keyring([KEY, OLDER])
APPLICATION_KEY = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def boxed(content: object, key: SealingKey = KEY) -> str:
    """Sealed the way a producer does it that knows libsodium and nothing of us."""
    plaintext = content if isinstance(content, bytes) else json.dumps(content).encode()
    box = SealedBox(PublicKey(from_base64url(key.public_key))).encrypt(plaintext)
    return f"sealed.v1.{key.key_id}.{base64url(box)}"


def refusal_of(sealed: str, merchant_id: str = "m-1", keyring: Keyring = KEYRING) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        keyring.open(sealed, merchant_id)
    return refused.value


def test_a_sealed_key_opens_for_its_merchant() -> None:
    sealed = seal(KEY.public_key, KEY.key_id, "m-1", APPLICATION_KEY)
    assert sealed.startswith(f"sealed.v1.{KEY.key_id}.")
    assert KEYRING.open(sealed, "m-1") == APPLICATION_KEY


def test_a_producer_needs_nothing_but_libsodium() -> None:
    assert KEYRING.open(boxed({"merchant_id": "m-1", "application_key": "abc"}), "m-1") == "abc"


def test_what_we_seal_opens_with_nothing_but_libsodium() -> None:
    private_key = PrivateKey.generate()
    sealed = seal(base64url(bytes(private_key.public_key)), "their-key", "m-1", "abc")
    kind, version, key_id, box = sealed.split(".")
    assert (kind, version, key_id) == ("sealed", "v1", "their-key")
    content = json.loads(SealedBox(private_key).decrypt(from_base64url(box)))
    assert content == {"merchant_id": "m-1", "application_key": "abc"}


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_padding_and_space_around_are_accepted(padding: str) -> None:
    sealed = boxed({"merchant_id": "m-1", "application_key": "abc" + "x" * (2 - len(padding))})
    assert KEYRING.open(f" {sealed}{padding}\n", "m-1").startswith("abc")


def test_an_older_key_still_opens() -> None:
    assert KEYRING.open(boxed({"merchant_id": "m-1", "application_key": "abc"}, OLDER), "m-1") == "abc"


@settings(deadline=None)
@given(st.text(min_size=1), st.text(min_size=1, max_size=2000))
def test_any_key_of_any_merchant_survives_sealing(merchant_id: str, application_key: str) -> None:
    assert KEYRING.open(seal(KEY.public_key, KEY.key_id, merchant_id, application_key), merchant_id) == application_key


def test_a_key_sealed_for_another_merchant_is_refused() -> None:
    sealed = boxed({"merchant_id": "m-2", "application_key": "abc"})
    assert refusal_of(sealed, "m-1").code == "sealed_for_another_merchant"
    assert refusal_of(sealed, "m-2 ").code == "sealed_for_another_merchant"


@pytest.mark.parametrize("clear", [APPLICATION_KEY, f"Bearer {APPLICATION_KEY}", "", "x", "v1.a.b"])
def test_a_key_in_the_clear_is_refused_with_the_way_to_seal_it(clear: str) -> None:
    refusal = refusal_of(clear)
    assert (refusal.field, refusal.code) == ("application_key", "not_sealed")
    assert "./run occ seal" in refusal.remedy
    assert "docs/" in refusal.remedy


@pytest.mark.parametrize(
    "around", ["\ufeff{}", '"{}"', "'{}'", "Bearer {}", "key: {}", "`{}`", "\u200b{}", " \ufeff {}\n"]
)
def test_a_sealed_key_with_something_around_it_is_not_called_one_in_the_clear(around: str) -> None:
    sealed = boxed({"merchant_id": "m-1", "application_key": "abc"})
    refusal = refusal_of(around.format(sealed), "m-1")
    assert (refusal.field, refusal.code) == ("application_key", "malformed")
    assert "around it" in refusal.remedy
    assert sealed not in refusal.remedy
    assert refusal_of("Sealed.v1.a.b").code == "malformed"


@pytest.mark.parametrize(
    "sealed",
    [
        "sealed",
        "sealed.",
        "sealed.v1",
        "sealed.v1..AAAA",
        "sealed.v2.k.AAAA",
        "sealed.v1.k.",
        "sealed.v1.k.A",
        "sealed.v1.k.AA+/",
        "sealed.v1.k.AAAA.AAAA",
        "sealed.v1.k.AA AA",
        "sealed.v1.k.ÄÄÄÄ",
        "sealed.v1.k.AAAA====",
        f"sealed.v1.{'k' * 33}.AAAA",
        "sealed.v1.k/k.AAAA",
    ],
)
def test_something_that_only_looks_like_a_sealed_key_is_malformed(sealed: str) -> None:
    assert refusal_of(sealed).code == "malformed"


def test_an_unknown_key_id_is_answered_with_those_in_use() -> None:
    refusal = refusal_of("sealed.v1.theirs.AAAA")
    assert refusal.code == "unknown_key_id"
    assert KEY.key_id in refusal.remedy
    assert OLDER.key_id in refusal.remedy
    assert "theirs" not in refusal.remedy


def test_a_box_under_the_wrong_key_or_changed_or_cut_cannot_be_opened() -> None:
    sealed = boxed({"merchant_id": "m-1", "application_key": "abc"})
    swapped = sealed.replace(KEY.key_id, OLDER.key_id)
    changed = sealed[:-8] + ("A" if sealed[-8] != "A" else "B") + sealed[-7:]
    for broken in (swapped, changed, sealed[:-4], f"sealed.v1.{KEY.key_id}.AAAA"):
        assert refusal_of(broken).code == "cannot_be_opened"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"abc",
        b"[" * 9000,
        [],
        "abc",
        {},
        {"merchant_id": "m-1"},
        {"application_key": "abc"},
        {"merchant_id": 1, "application_key": "abc"},
        {"merchant_id": "m-1", "application_key": None},
        {"merchant_id": "m-1", "application_key": "abc", "more": 1},
    ],
)
def test_a_box_that_holds_something_else_is_malformed(content: object) -> None:
    assert refusal_of(boxed(content)).code == "malformed"


def test_a_sealed_key_has_a_greatest_length() -> None:
    assert refusal_of("sealed.v1.k." + "A" * MAX_SEALED_LENGTH).code == "too_large"
    assert refusal_of("x" * (MAX_SEALED_LENGTH + 1)).code == "too_large"
    assert refusal_of("sealed.v1.k.".ljust(MAX_SEALED_LENGTH, "A")).code == "unknown_key_id"


@settings(deadline=None)
@given(
    st.one_of(
        st.text(),
        st.text().map(lambda rest: f"sealed.{rest}"),
        st.text().map(lambda rest: f"sealed.v1.{KEY.key_id}.{rest}"),
        st.binary().map(lambda box: f"sealed.v1.{KEY.key_id}.{base64url(box)}"),
        st.binary().map(boxed),
    )
)
def test_whatever_is_not_a_sealed_key_is_refused_and_nothing_else_happens(text: str) -> None:
    assert refusal_of(text).field == "application_key"


def test_no_refusal_repeats_what_it_refuses() -> None:
    canary = "canary-hunter2"
    inputs = [
        canary,
        f"sealed.{canary}",
        f"sealed.v1.{canary}.AAAA",
        f"sealed.v1.{KEY.key_id}.{canary}",
        boxed(canary.encode()),
        boxed({"merchant_id": canary, "application_key": canary}),
        boxed({"merchant_id": "m-1", "application_key": "abc", canary: canary}),
        canary * 2000,
    ]
    for sealed in inputs:
        refusal = refusal_of(sealed)
        assert canary not in "".join([*traceback.format_exception(refusal), repr(refusal), refusal.remedy])


def test_a_key_pair_survives_being_written_down() -> None:
    text = KEY.export()
    key_id, private_key = text.split(":")
    assert (key_id, len(from_base64url(private_key))) == (KEY.key_id, 32)
    assert SealingKey.parse(f" {text}\n") == KEY
    assert SealingKey.parse(f"{text}=").public_key == KEY.public_key
    assert SealingKey.parse(f"2026-11:{private_key}").key_id == "2026-11"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "k:",
        *(f"{key_id}:{'A' * 43}" for key_id in ("", "k k", "k.k", "k" * 33)),
        *(f"k:{'A' * n}" for n in (42, 44)),
    ],
)
def test_what_is_no_key_pair_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="key") as refused:
        SealingKey.parse(text)
    assert "AAAA" not in "".join(traceback.format_exception(refused.value)).replace(repr(text), "")


def test_generated_key_pairs_differ_and_have_short_ids() -> None:
    keys = [SealingKey.generate() for _ in range(20)]
    assert len({key.key_id for key in keys}) == len({key.public_key for key in keys}) == 20
    assert {len(key.key_id) for key in keys} == {8}


def test_nothing_that_shows_or_copies_a_key_pair_gives_the_private_half_away() -> None:
    private_half = KEY.export().split(":")[1]
    for shown in (repr(KEY), str(KEY), f"{KEY}", repr([KEY]), repr(KEYRING), repr(vars(KEYRING).keys())):
        assert private_half not in shown
    assert not hasattr(KEY, "__dict__")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEY)
    assert copy.deepcopy(KEY) is KEY


def test_key_pairs_are_equal_only_with_the_same_private_half() -> None:
    assert SealingKey.parse(KEY.export()) == KEY
    assert hash(SealingKey.parse(KEY.export())) == hash(KEY)
    assert SealingKey.parse(f"{KEY.key_id}:{OLDER.export().split(':')[1]}") != KEY
    assert KEY.export() != KEY


def test_sealing_needs_a_public_key_and_something_to_seal() -> None:
    arguments = {"public_key": KEY.public_key, "key_id": "k", "merchant_id": "m-1", "application_key": "canary"}
    wrong = {
        "public_key": ["", "A" * 42, "A" * 43, "ä"],
        "key_id": ["", "a.b"],
        "merchant_id": [""],
        "application_key": [""],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=r"key|merchant") as refused:
                seal(**{**arguments, name: value})
            assert "canary" not in str(refused.value)


def test_a_keyring_has_keys_with_ids_of_their_own() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Keyring([])
    with pytest.raises(ValueError, match="share an id"):
        Keyring([KEY, KEY])
    assert KEYRING.newest == KEY


def test_a_token_is_read_back_by_its_merchant_only() -> None:
    text = KEYRING.encrypt_token("m-1", "token")
    assert text.startswith(f"v1.{KEY.key_id}.")
    assert KEYRING.decrypt_token("m-1", text) == "token"
    assert KEYRING.decrypt_token("m-2", text) is None
    assert KEYRING.decrypt_token("\ud800", KEYRING.encrypt_token("\ud800", "\udfff")) == "\udfff"


def test_a_token_is_read_after_a_new_key_came_and_not_after_its_own_is_gone() -> None:
    text = Keyring([OLDER]).encrypt_token("m-1", "token")
    assert KEYRING.decrypt_token("m-1", text) == "token"
    assert Keyring([KEY]).decrypt_token("m-1", text) is None
    assert (
        Keyring([SealingKey.parse(f"{OLDER.key_id}:{KEY.export().split(':')[1]}")]).decrypt_token("m-1", text) is None
    )


def test_the_same_token_never_looks_the_same_twice() -> None:
    assert len({KEYRING.encrypt_token("m-1", "token") for _ in range(20)}) == 20


@settings(deadline=None)
@given(st.text(), st.text(), st.integers(0), st.characters(exclude_categories=["Cs"]))
def test_a_token_that_was_changed_is_no_token(merchant_id: str, token: str, place: int, character: str) -> None:
    text = KEYRING.encrypt_token(merchant_id, token)
    assert KEYRING.decrypt_token(merchant_id, text) == token
    place %= len(text)
    changed = text[:place] + character + text[place + 1 :]
    # The last character of base64 has bits that mean nothing.
    assert changed == text or place == len(text) - 1 or KEYRING.decrypt_token(merchant_id, changed) is None


@settings(deadline=None)
@given(st.text())
def test_text_that_is_no_token_is_none(text: str) -> None:
    assert KEYRING.decrypt_token("m-1", text) is None
    assert KEYRING.decrypt_token("m-1", f"v1.{KEY.key_id}.{text}") is None


def test_a_keyring_knows_its_keys_by_their_whole_id() -> None:
    first, tenth = SealingKey("k1", bytes(range(32))), SealingKey("k10", bytes(range(1, 33)))
    sealed = seal(tenth.public_key, "k10", "m-1", APPLICATION_KEY)
    assert Keyring([tenth]).knows(sealed)
    assert not Keyring([first]).knows(sealed)
