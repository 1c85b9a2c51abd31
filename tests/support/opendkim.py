"""libopendkim (Debian: opendkim), a DKIM verifier that shares no code with ours, called in this process.

It is told keys by a function, so they can come from a name server on any port.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable

Handle = ctypes.c_void_p
LOOKUP = ctypes.CFUNCTYPE(ctypes.c_int, Handle, Handle, ctypes.POINTER(ctypes.c_char), ctypes.c_size_t)
FOUND, NOT_FOUND = 0, 1  # DKIM_CBSTAT_CONTINUE, DKIM_CBSTAT_REJECT
PASSED, MATCH = 0x04, 0  # DKIM_SIGFLAG_PASSED, DKIM_SIGBH_MATCH


class OpenDkim:
    """Verifies messages. `key` gives the record at a name, or None."""

    def __init__(self, key: Callable[[str], bytes | None]) -> None:
        name = ctypes.util.find_library("opendkim")
        assert name is not None, "install opendkim"
        self._lib = _declared(ctypes.CDLL(name))
        self._library = self._lib.dkim_init(None, None)
        self._lookup = LOOKUP(self._give)  # kept: the library keeps no reference to it
        self._lib.dkim_set_key_lookup(self._library, self._lookup)
        self._key = key

    def verify(self, source: bytes) -> list[str]:
        """A line for each signature, the first in the message first: `selector: ok`, or what is wrong."""
        status, signatures, count = ctypes.c_int(), ctypes.POINTER(Handle)(), ctypes.c_int()
        message = self._lib.dkim_verify(self._library, b"test", None, ctypes.byref(status))
        self._lib.dkim_chunk(message, source, len(source))
        self._lib.dkim_chunk(message, b"", 0)
        self._lib.dkim_eom(message, None)
        self._lib.dkim_getsiglist(message, ctypes.byref(signatures), ctypes.byref(count))
        found = [self._verdict(message, signatures[index]) for index in range(count.value)]
        self._lib.dkim_free(message)
        return found

    def _verdict(self, message: Handle, signature: Handle) -> str:
        self._lib.dkim_sig_process(message, signature)
        selector = self._lib.dkim_sig_getselector(signature).decode()
        passed = self._lib.dkim_sig_getflags(signature) & PASSED and self._lib.dkim_sig_getbh(signature) == MATCH
        error = self._lib.dkim_sig_geterrorstr(self._lib.dkim_sig_geterror(signature)).decode()
        return f"{selector}: {'ok' if passed else error}"

    def _give(self, message: int, signature: int, buffer: ctypes.Array[ctypes.c_char], size: int) -> int:
        selector, domain = self._lib.dkim_sig_getselector(signature), self._lib.dkim_sig_getdomain(signature)
        record = self._key(f"{selector.decode()}._domainkey.{domain.decode()}")
        if record is None or len(record) >= size:
            return NOT_FOUND
        ctypes.memmove(buffer, record + b"\0", len(record) + 1)
        return FOUND


def _declared(lib: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of what is used of it (dkim.h)."""
    text, number, out = ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p
    functions = {
        "dkim_init": (Handle, [Handle, Handle]),
        "dkim_set_key_lookup": (number, [Handle, LOOKUP]),
        "dkim_verify": (Handle, [Handle, text, Handle, out]),
        "dkim_chunk": (number, [Handle, text, ctypes.c_size_t]),
        "dkim_eom": (number, [Handle, out]),
        "dkim_getsiglist": (number, [Handle, out, out]),
        "dkim_sig_process": (number, [Handle, Handle]),
        "dkim_sig_getselector": (text, [Handle]),
        "dkim_sig_getdomain": (text, [Handle]),
        "dkim_sig_getflags": (number, [Handle]),
        "dkim_sig_getbh": (number, [Handle]),
        "dkim_sig_geterror": (number, [Handle]),
        "dkim_sig_geterrorstr": (text, [number]),
        "dkim_free": (number, [Handle]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
