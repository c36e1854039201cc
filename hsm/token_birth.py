# SPDX-License-Identifier: Apache-2.0
"""Initialising a token: the four PKCS#11 calls that python-pkcs11 does not offer.

Implements PKCS#11 2.40 sections 5.5 and 5.6 (C_InitToken, C_InitPIN). PINs go to the module as bytes:
softhsm2-util would want them on its command line.
Creates no key.
"""

import ctypes
from typing import Any, Final

from pkcs11 import TokenFlag

from hsm.errors import HsmUnavailable
from hsm.pkcs11 import ThreadedLibrary

# Places in CK_FUNCTION_LIST, PKCS#11 2.40 section 3.6.
_C_INIT_TOKEN, _C_INIT_PIN, _C_OPEN_SESSION, _C_CLOSE_SESSION, _C_LOGIN, _C_LOGOUT = 9, 10, 12, 13, 18, 19
_CKU_SO = 0  # the security officer, who alone may set the user's PIN
_CKF_RW_SERIAL = 0x2 | 0x4  # CKF_RW_SESSION, which C_InitPIN needs, and CKF_SERIAL_SESSION, without which none opens
_LABEL_BYTES = 32  # CK_TOKEN_INFO: filled with blanks, not ended by a zero

_ULONG: Final = ctypes.c_ulong
_TEXT: Final = ctypes.c_char_p


def create_token(library: ThreadedLibrary, *, label: str, so_pin: str, pin: str) -> str:
    """Initialise the first free slot and set both PINs. Return the token's serial. Raises HsmUnavailable."""
    slot = _free_slot(library)
    so, user = so_pin.encode(), pin.encode()
    padded = label.encode().ljust(_LABEL_BYTES)
    init = library.function(_C_INIT_TOKEN, _ULONG, _TEXT, _ULONG, _TEXT)
    _check("C_InitToken", init(slot, so, len(so), padded))
    session = _ULONG()
    opened = library.function(_C_OPEN_SESSION, _ULONG, _ULONG, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_ULONG))
    _check("C_OpenSession", opened(slot, _CKF_RW_SERIAL, None, None, ctypes.byref(session)))
    login = library.function(_C_LOGIN, _ULONG, _ULONG, _TEXT, _ULONG)
    _check("C_Login", login(session, _CKU_SO, so, len(so)))
    set_pin = library.function(_C_INIT_PIN, _ULONG, _TEXT, _ULONG)
    _check("C_InitPIN", set_pin(session, user, len(user)))
    _check("C_Logout", library.function(_C_LOGOUT, _ULONG)(session))
    _check("C_CloseSession", library.function(_C_CLOSE_SESSION, _ULONG)(session))
    # By label, just this once: the serial is what is being asked for. SoftHSM gives the
    # token another slot after C_InitToken.
    for token in library.get_tokens():
        if token.label == label:
            return str(token.serial.decode())
    raise HsmUnavailable(f"the token {label} was initialised and is not to be seen")


def _free_slot(library: ThreadedLibrary) -> int:
    for slot in library.get_slots(token_present=True):
        if not slot.get_token().flags & TokenFlag.TOKEN_INITIALIZED:
            return int(slot.slot_id)
    raise HsmUnavailable("the module offers no slot with an uninitialised token")


def _check(call: str, code: Any) -> None:
    if code != 0:
        raise HsmUnavailable(f"{call} answered {code:#x}")
