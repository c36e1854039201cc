# SPDX-License-Identifier: Apache-2.0
"""The PKCS#11 module as one process may use it, and what its return codes mean to us.

Implements HSM sections 6.1 to 6.3 and section 8 (python-pkcs11 quirks 1, 10, 11, 16).
Holds no login and no key: see hsm.pool.
PKCS#11: https://docs.oasis-open.org/pkcs11/pkcs11-base/v2.40/os/pkcs11-base-v2.40-os.html section 5.4.
"""

import ctypes
import os
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from pkcs11 import _pkcs11
from pkcs11 import exceptions as ck

from hsm.errors import HsmError, HsmUnavailable

# CKF_OS_LOCKING_OK and three return values (CKR_OK, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_CRYPTOKI_ALREADY_INITIALIZED).
# Written out, since these calls do not go through python-pkcs11.
_OS_LOCKING_OK = 0x2
_OK = 0x0
_NOT_INITIALIZED = 0x190  # somebody else has finalised
_ALREADY_INITIALIZED = 0x191  # somebody else has initialised, with locks or without

# Places in CK_FUNCTION_LIST, PKCS#11 2.40 section 3.6.
_C_INITIALIZE, _C_FINALIZE = 0, 1
_FUNCTIONS = 68  # C_Initialize to C_WaitForSlotEvent; 3.0 keeps this list as it is


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS, PKCS#11 2.40 section 3.7."""

    _fields_ = (
        ("CreateMutex", ctypes.c_void_p),
        ("DestroyMutex", ctypes.c_void_p),
        ("LockMutex", ctypes.c_void_p),
        ("UnlockMutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("pReserved", ctypes.c_void_p),
    )


class _FunctionList(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_ubyte),
        ("minor", ctypes.c_ubyte),
        ("functions", ctypes.c_void_p * _FUNCTIONS),
    )


class ThreadedLibrary(_pkcs11.lib):
    """python-pkcs11's library, initialised so that the module locks.

    python-pkcs11 passes NULL to C_Initialize and releases the GIL: SoftHSM then runs without mutexes, and
    15 of 15 threaded runs crashed. The base class never believes itself initialised, so it never finalises.
    """

    # initialize() runs inside the base constructor, before any attribute of ours could be set.
    def initialize(self) -> None:
        """Call C_Initialize with CKF_OS_LOCKING_OK.

        Raises HsmError in a process that is already initialised, by other code or by its parent before
        fork(): the first is without locks, the second has another process's sessions.
        """
        check_process()
        # One opening for all tokens: a second C_Initialize would share sessions that
        # another part of the program may end.
        if _Owner.pid is not None:
            raise HsmError("this process has the HSM open already: one opening serves all its tokens")
        args = _InitializeArgs(None, None, None, None, _OS_LOCKING_OK, None)
        code = self.function(_C_INITIALIZE, ctypes.c_void_p)(ctypes.byref(args))
        if code == _ALREADY_INITIALIZED:
            raise HsmError("other code of this process has initialised the HSM library")
        if code != _OK:
            raise HsmUnavailable(f"C_Initialize answered {code:#x}")
        _Owner.pid = os.getpid()

    def c_finalize(self) -> None:
        """Call C_Finalize. No other thread may be inside the library: SoftHSM crashes."""
        code = self.function(_C_FINALIZE, ctypes.c_void_p)(None)
        # Not initialised is what was wanted: other code may have finalised before us.
        if code not in {_OK, _NOT_INITIALIZED}:
            raise HsmUnavailable(f"C_Finalize answered {code:#x}")
        _Owner.pid = None

    def function(self, place: int, *arguments: Any) -> Any:
        """Return the C function at `place` of the module's function list, as ctypes sees it."""
        table = _function_list(self.so)
        return ctypes.CFUNCTYPE(ctypes.c_ulong, *arguments)(table.functions[place])


class _Owner:
    """The process that initialised the library; inherited by fork, which is how a child notices."""

    pid: int | None = None


def check_process() -> None:
    """Raise HsmError in a child that inherited an initialised library; its locks may be held for ever."""
    if _Owner.pid is not None and _Owner.pid != os.getpid():
        raise HsmError("the HSM library was initialised before fork(): open the tokens in the child")


_tables: dict[str, _FunctionList] = {}
_libraries: dict[str, ThreadedLibrary] = {}


def _function_list(module: str) -> _FunctionList:
    if module not in _tables:
        # The same dlopen handle gives the same library state as python-pkcs11 uses.
        pointer = ctypes.POINTER(_FunctionList)()
        code = ctypes.CDLL(module).C_GetFunctionList(ctypes.byref(pointer))
        if code != _OK:
            raise HsmUnavailable(f"C_GetFunctionList answered {code:#x}")
        _tables[module] = pointer.contents
    return _tables[module]


def initialize(module: Path) -> ThreadedLibrary:
    """Return the initialised library of this process. Raises HsmUnavailable when it cannot be loaded."""
    check_process()
    name = str(module)
    try:
        if name in _libraries:
            _libraries[name].initialize()
        else:
            _libraries[name] = ThreadedLibrary(name)
    except (ck.PKCS11Error, OSError) as error:
        raise HsmUnavailable(f"the HSM module {module} cannot be loaded: {error}") from error
    return _libraries[name]


class Meaning(Enum):
    """What a PKCS#11 error asks of us."""

    STATE_LOST = auto()
    """Sessions or handles are gone: initialise again, once."""
    PIN_REJECTED = auto()
    """Never try again."""
    REFUSED = auto()
    """The key does not open this blob."""
    AMBIGUOUS = auto()
    """State lost or a bad blob: only a look at a known key can tell."""
    UNAVAILABLE = auto()
    """Anything else; nothing that we can mend."""


# Session, login, token or handle is gone: nothing is wrong with the request, and a new start may mend it.
# OPERATION_ACTIVE stands here too, since only a new session ends an operation that somebody left open.
_STATE_LOST: Final = (
    ck.SessionHandleInvalid,
    ck.SessionClosed,
    ck.UserNotLoggedIn,
    ck.DeviceRemoved,
    ck.DeviceError,
    ck.TokenNotPresent,
    ck.TokenNotRecognised,
    ck.SlotIDInvalid,
    ck.ObjectHandleInvalid,
    ck.KeyHandleInvalid,
    ck.WrappingKeyHandleInvalid,
    ck.UnwrappingKeyHandleInvalid,
    ck.OperationActive,
    ck.OperationNotInitialized,
)
# Never tried again: a real HSM locks after a few, and then nobody gets in (FAULTS H3).
_PIN_REJECTED: Final = (ck.PinIncorrect, ck.PinLocked, ck.PinExpired, ck.PinInvalid, ck.PinLenRange)
# The module looked at the blob and did not like it. Modules differ in which of these they say of the same blob.
REFUSED: Final = (
    ck.EncryptedDataInvalid,
    ck.EncryptedDataLenRange,
    ck.WrappedKeyInvalid,
    ck.WrappedKeyLenRange,
    ck.DataInvalid,
    ck.DataLenRange,
)
# CKR_GENERAL_ERROR and CKR_FUNCTION_FAILED are also SoftHSM's word for a bad ciphertext.
AMBIGUOUS: Final = (ck.GeneralError, ck.FunctionFailed)


def meaning(error: ck.PKCS11Error) -> Meaning:
    """Return what `error` asks of us."""
    for classes, answer in (
        (_STATE_LOST, Meaning.STATE_LOST),
        (_PIN_REJECTED, Meaning.PIN_REJECTED),
        (REFUSED, Meaning.REFUSED),
        (AMBIGUOUS, Meaning.AMBIGUOUS),
    ):
        if isinstance(error, classes):
            return answer
    # CKR_CRYPTOKI_NOT_INITIALIZED has no class of its own in python-pkcs11 0.10.
    # By its text, since there is nothing else to tell it by (HSM section 8, quirk 10).
    if "not initialized" in str(error):
        return Meaning.STATE_LOST
    return Meaning.UNAVAILABLE
