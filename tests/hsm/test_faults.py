# SPDX-License-Identifier: Apache-2.0
"""An HSM that fails, hangs or disappears while a process runs (FAULTS H1, H3 to H7, H11, H14, G15, G21)."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from hsm.errors import HsmError, HsmRefused, HsmUnavailable
from hsm.runtime import Tokens, open_tokens
from tests.cast.hsm import OAEP_SHA1, OWN, TENANT, Interposer, seal, spki

AAD = b"acme/alice"
SECRET = bytes(32)

# python-pkcs11 ends a search that never began when it collects it, and the error has nowhere to go.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Operation = Callable[[], object]

# The functions that each operation passes through, and must survive the failure of.
LOST = {
    "session handle invalid": "0xb3",
    "session closed": "0xb0",
    "user not logged in": "0x101",
    "object handle invalid": "0x82",
    "key handle invalid": "0x60",
    "device error": "0x30",
    "device removed": "0x32",
    "token not present": "0xe0",
    "cryptoki not initialised": "0x190",
}


def operations(config: HsmConfig, tokens: Tokens, recipient: rsa.RSAPrivateKey) -> dict[str, Operation]:
    wrapped = tokens.root.generate_tenant_key(**OWN)
    tenant_key = tokens.root.load_tenant_key(wrapped)
    record = tenant_key.new_record_key(aad=AAD)
    escrow = Ceremony(config).escrow_keys(TENANT)[0]
    sealed, to = seal(escrow.spki, SECRET), spki(recipient)
    return {
        "generate": lambda: tokens.root.generate_tenant_key(**OWN),
        "unwrap": lambda: tokens.root.load_tenant_key(wrapped),
        "encrypt": lambda: tenant_key.wrap_record_key(record.key, aad=AAD),
        "decrypt": lambda: tenant_key.unwrap_record_key(record.wrapped, aad=AAD),
        "sign": lambda: tokens.log.sign(b"head"),
        "rewrap": lambda: tokens.escrow.rewrap(escrow.ref, sealed, to),
    }


INJECTIONS = [
    ("generate", "C_GenerateKey"),
    ("generate", "C_WrapKey"),
    ("encrypt", "C_EncryptInit"),
    ("encrypt", "C_Encrypt"),
    ("decrypt", "C_DecryptInit"),
    ("decrypt", "C_Decrypt"),
    ("sign", "C_SignInit"),
    ("sign", "C_Sign"),
]


@pytest.mark.parametrize("lost", LOST)
def test_state_lost_once_is_mended_by_one_login_for_each_token(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey, lost: str
) -> None:
    with open_tokens(interposed, ["root", "log", "escrow"]) as tokens:
        run = operations(interposed, tokens, recipient)
        for name, function in INJECTIONS:
            interposer.forget()
            interposer.rules(f"{function} rv {LOST[lost]} n=1")
            run[name]()
            assert interposer.entered("C_Login") == 3, (name, function)
        interposer.rules()
        for operation in run.values():
            operation()


def test_state_lost_before_a_rewrap_is_mended_and_during_it_is_not_repeated(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey
) -> None:
    key = Ceremony(interposed).escrow_keys(TENANT)[0]
    sealed = seal(key.spki, SECRET)
    with open_tokens(interposed, ["escrow"]) as tokens:
        for code in LOST.values():
            interposer.forget()
            interposer.rules(f"C_GetAttributeValue rv {code} n=2")
            again = tokens.escrow.rewrap(key.ref, sealed, spki(recipient))
            assert recipient.decrypt(again, OAEP_SHA1) == SECRET
            assert interposer.entered("C_UnwrapKey", key.ref.cka_id) == 1
            interposer.rules(f"C_CreateObject rv {code} n=1")
            with pytest.raises(HsmUnavailable):
                tokens.escrow.rewrap(key.ref, sealed, spki(recipient))
            assert interposer.entered("C_UnwrapKey", key.ref.cka_id) == 2
        interposer.rules()
        assert tokens.escrow.rewrap(key.ref, sealed, spki(recipient))


@pytest.mark.parametrize("code", ["0x32", "0xe0", "0x30", "0x5", "0x6", "0x31", "0xb1", "0x54", "0x1b"])
def test_lasting_failure_is_unavailable_without_a_storm_and_heals(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey, code: str
) -> None:
    """Removed, not present, device error, general, failed, memory, sessions, unsupported, unmapped code."""
    with open_tokens(interposed, ["root", "log", "escrow"]) as tokens:
        run = operations(interposed, tokens, recipient)
        interposer.forget()
        # As a token that was pulled out: everything that needs it answers so, the login too.
        interposer.rules(
            *(f"{function} rv {code}" for _, function in INJECTIONS),
            f"C_UnwrapKey rv {code}",
            f"C_OpenSession rv {code}",
            f"C_FindObjectsInit rv {code}",
        )
        started = time.monotonic()
        for _ in range(10):
            for name in ("generate", "encrypt", "sign", "rewrap"):
                with pytest.raises(HsmUnavailable):
                    run[name]()
        assert time.monotonic() - started < 5
        assert interposer.entered("C_Initialize") <= 12, "a retry storm"
        interposer.rules()
        _within(10, run["sign"])
        for operation in run.values():
            operation()


def _within(seconds: float, operation: Operation) -> None:
    """Ask again until it works, as callers do; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            operation()
        except HsmUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_keys_that_vanish_are_unavailable_or_missing_and_never_made_anew(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    """SoftHSM answers "no objects, OK" for a token that was taken away."""
    with open_tokens(replace(interposed, threads=1), ["log"]) as tokens:
        (copy,) = interposed.runtime_root.iterdir()
        moved = copy / "away"
        (copy / "tokens").rename(moved)
        # The process heals itself: it takes a fresh copy of the pristine token.
        (copy / "tokens").mkdir()
        assert len(tokens.log.sign(b"head")) == 64
        pristine = interposed.home / "tokens"
        pristine.rename(interposed.home / "gone")
        interposer.rules("C_SignInit rv 0xe0 n=1")
        with pytest.raises(HsmError, match="hsm_restore log"):
            tokens.log.sign(b"head")
        (interposed.home / "gone").rename(pristine)
        _within(10, lambda: tokens.log.sign(b"head"))
    assert interposer.entered("C_GenerateKeyPair") == interposer.entered("C_GenerateKey") == 0


def test_slow_hsm_is_left_at_the_deadline_and_the_queue_is_bounded(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    config = replace(interposed, deadline_seconds=0.3, threads=2)
    with open_tokens(config, ["log"]) as tokens:
        interposer.rules("C_Sign before 800")
        took: list[float] = []
        outcomes: list[type[BaseException] | None] = []

        def sign() -> None:
            started = time.monotonic()
            try:
                tokens.log.sign(b"head")
                outcomes.append(None)
            except HsmError as error:
                outcomes.append(type(error))
            took.append(time.monotonic() - started)

        threads = [threading.Thread(target=sign) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(outcomes) == {HsmUnavailable}
        assert max(took) < 2
        # More than the queue holds were turned away at once.
        assert sum(seconds < 0.25 for seconds in took) >= 30
        interposer.rules()
        _within(5, lambda: tokens.log.sign(b"head"))
        # What was given up before it began never reached the HSM.
        assert interposer.entered("C_Sign") < 20


def test_hung_hsm_keeps_nobody_waiting_once_every_thread_is_inside_it(
    interposed: HsmConfig, interposer: Interposer
) -> None:
    config = replace(interposed, deadline_seconds=0.5, threads=2)
    with open_tokens(config, ["log"]) as tokens:
        interposer.rules("C_Sign before 4000")

        def sign_late() -> None:
            with pytest.raises(HsmUnavailable, match="within"):
                tokens.log.sign(b"head")

        first = [threading.Thread(target=sign_late) for _ in range(2)]
        for thread in first:
            thread.start()
        for thread in first:
            thread.join()
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(HsmUnavailable, match="does not return"):
                tokens.log.sign(b"head")
        assert time.monotonic() - started < 0.5, "twenty callers together waited less than one does"
        interposer.rules()
        _within(10, lambda: tokens.log.sign(b"head"))


def test_flaky_hsm_gives_typed_errors_only_and_right_answers(
    interposed: HsmConfig, interposer: Interposer, recipient: rsa.RSAPrivateKey
) -> None:
    """Three calls in ten fail. Whoever asks again gets what they asked for; nothing comes out wrong."""
    with open_tokens(interposed, ["root", "log", "escrow"]) as tokens:
        run = operations(interposed, tokens, recipient)
        escrow = Ceremony(interposed).escrow_keys(TENANT)[0].ref
        interposer.forget()
        done = failed = rewraps = 0
        interposer.rules(*(f"{function} rv 0x5 p=0.3" for _, function in INJECTIONS))
        for n in range(200):
            name = list(run)[n % len(run)]
            rewraps += name == "rewrap"
            # Only what opens a blob may be told that the blob is bad.
            opens = name in {"unwrap", "decrypt", "rewrap"}
            expected = (HsmUnavailable, HsmRefused) if opens else (HsmUnavailable,)
            try:
                answer = run[name]()
                done += 1
            except expected:
                failed += 1
                continue
            if name == "rewrap":
                assert isinstance(answer, bytes)
                assert recipient.decrypt(answer, OAEP_SHA1) == SECRET
        assert done > 40
        assert failed > 20
        assert interposer.entered("C_UnwrapKey", escrow.cka_id) <= rewraps
        interposer.rules()
        _within(10, run["sign"])
        for operation in run.values():
            operation()


def test_user_already_logged_in_is_unavailable_and_not_a_crash(interposed: HsmConfig, interposer: Interposer) -> None:
    interposer.rules("C_Login rv 0x100")
    with pytest.raises(HsmUnavailable):
        open_tokens(interposed, ["root"])
    interposer.rules("C_Login rv 0x5 n=1")
    # One failure of the start is the race that SoftHSM is known for: tried again.
    open_tokens(interposed, ["root"]).close()
