# SPDX-License-Identifier: Apache-2.0
"""Why no answer came, in a sentence for the person: the name, the network, the port, the certificate, or the time.

Implements FAULTS D6 on the client's side: what is told of it. Does not connect, and does not decide what is tried
again: `transport` does.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import httpcore2
import httpx2

from holdfast.client.errors import NotTheServer, Unreachable

_AGAIN: Final = "Then run the command again."
_NETWORK: Final = f"Check this machine's network. {_AGAIN}"
_ADDRESS: Final = f"Check how the address is written, and this machine's network. {_AGAIN}"
_SERVER: Final = "Check the address and its port. If they are right, the server is down: tell your operator."

# What OpenSSL says of a certificate (X509_V_ERR_…, openssl-verification-options(1)), and what a person does about it.
_OWN_CLOCK: Final = "If this machine's date is right, tell your operator; else set it."
_NO_ISSUER: Final = (
    "nobody whom this machine trusts has issued it",
    "If your organisation has a certificate authority of its own, have its certificate added to those of this machine; "
    "else somebody may stand between you and the server: send nothing there, and tell your operator.",
)
_CERTIFICATE: Final[dict[int, tuple[str, str]]] = {
    9: ("it is not valid yet", _OWN_CLOCK),
    10: ("it has expired", _OWN_CLOCK),
    18: _NO_ISSUER,  # signed by itself
    19: _NO_ISSUER,  # signed by itself, with more before it
    20: _NO_ISSUER,  # its issuer is not known here
    21: _NO_ISSUER,  # its first signature cannot be followed
    23: ("it was revoked", "Send nothing there, and tell your operator."),
    62: ("it is of another name", "Check how the address is written; if it is right, tell your operator."),
    64: ("it is of another address", "Give the server's name instead of its number; else tell your operator."),
}
# The network's own refusals: in what words, and what helps.
_NETWORK_REFUSALS: Final[dict[int, tuple[str, str]]] = {
    errno.ECONNREFUSED: ("nothing listens there", _SERVER),
    errno.EHOSTUNREACH: ("no way leads there from here", _NETWORK),
    errno.ENETUNREACH: ("no way leads there from here", _NETWORK),
    errno.ENETDOWN: ("this machine's network is down", _NETWORK),
    errno.ECONNRESET: ("it broke the connection off", _SERVER),
    errno.EPIPE: ("it broke the connection off", _SERVER),
}


def explain(server: str, error: Exception) -> Unreachable:
    """Return the refusal for what the connection to `server` (its URL) raised, by the innermost cause that is known."""
    found = (_of_cause(server, cause) for cause in _causes(error))
    known = next((refusal for refusal in found if refusal is not None), None)
    return known or Unreachable(f"{server} cannot be reached.", way_out=_ADDRESS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield what an error came of, the innermost first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    yield from reversed(found)


def _of_cause(server: str, cause: BaseException) -> Unreachable | None:
    found: Unreachable | None = None
    match cause:
        case ssl.SSLCertVerificationError():
            found = _not_trusted(server, cause)
        case ssl.SSLError():
            found = _no_tls(server, cause)
        case socket.gaierror():
            found = _no_name(server, cause)
        case TimeoutError() | httpx2.TimeoutException() | httpcore2.TimeoutException():
            found = Unreachable(f"{server} timed out: no whole answer came in time.", way_out=_NETWORK)
        case OSError(errno=number) if number in _NETWORK_REFUSALS:
            why, way_out = _NETWORK_REFUSALS[number]
            found = Unreachable(f"{server} cannot be reached: {why}.", way_out=way_out)
        case httpx2.RemoteProtocolError() | httpcore2.RemoteProtocolError():
            why = "it ended the connection without a whole answer"
            found = Unreachable(f"{server} cannot be reached: {why}.", way_out=_SERVER)
    return found


def _not_trusted(server: str, error: ssl.SSLCertVerificationError) -> NotTheServer:
    why, way_out = _CERTIFICATE.get(error.verify_code, (error.verify_message, "Tell your operator."))
    return NotTheServer(f"The certificate of {server} is not trusted: {why}. Nothing was sent.", way_out=way_out)


def _no_tls(server: str, error: ssl.SSLError) -> NotTheServer:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        why = f"What answers at {server} does not speak TLS, as https needs it. Nothing was sent."
        return NotTheServer(why, way_out="Check the port; plain http:// is for a server on this machine alone.")
    return NotTheServer(
        f"No encrypted connection to {server} comes about ({error.reason or 'TLS'}). Nothing was sent.",
        way_out="Check the address and its port; if they are right, tell your operator.",
    )


def _no_name(server: str, error: socket.gaierror) -> Unreachable:
    if error.errno == socket.EAI_AGAIN:
        return Unreachable(f"{server} cannot be reached: no names can be looked up now.", way_out=_NETWORK)
    return Unreachable(f"{server} cannot be reached: there is no host of that name.", way_out=_ADDRESS)
