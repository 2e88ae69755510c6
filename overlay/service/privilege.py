"""Privilege: what a process may still do after set-up.

Lives here: capabilities and accounts, by system calls.  What must not: which
of them are needed (daemon).

Guarantee: after :func:`drop` the calling thread and those that it starts later
have no capability but those kept, and can get none by starting a program.
"""

from __future__ import annotations

import ctypes
import os
import platform
import pwd
from collections.abc import Collection

from overlay import ConfigError

__all__ = ["CAPABILITIES", "drop", "find_account", "held"]

#: The capabilities that a VTEP can have a use for.
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}

_SETPCAP = 8
_VERSION_3 = 0x20080522
_PR_SET_KEEPCAPS, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 8, 23, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(what: str, option: int, *arguments: int) -> int:
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(option, *values), what)


def _capget() -> tuple[int, int]:
    """(effective, permitted) of this thread."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _check(_libc.capget(ctypes.byref(header), data), "capget")
    return (
        data[0].effective | data[1].effective << 32,
        data[0].permitted | data[1].permitted << 32,
    )


def _capset(effective: int, permitted: int) -> None:
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    for half in (0, 1):
        data[half].effective = effective >> 32 * half & 0xFFFFFFFF
        data[half].permitted = permitted >> 32 * half & 0xFFFFFFFF
    _check(_libc.capset(ctypes.byref(header), data), "capset")


def held() -> list[str]:
    """The capabilities of :data:`CAPABILITIES` that this thread has now."""
    effective, _ = _capget()
    return [name for name, number in CAPABILITIES.items() if effective >> number & 1]


def find_account(name: str) -> pwd.struct_passwd:
    """The account of this name, or :class:`~overlay.errors.ConfigError`."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigError("user", name, "an account of this host") from None


def drop(keep: Collection[str], user: str | None = None) -> None:
    """Give up every capability but ``keep``, and become ``user`` if one is named.

    What the process does not have stays away; nothing is gained.  Raises
    OSError when the kernel refuses, before anything is given up by halves.
    """
    if platform.system() != "Linux":
        raise OSError("capabilities are Linux's")
    account = find_account(user) if user else None
    effective, permitted = _capget()
    kept = permitted & sum(1 << CAPABILITIES[name] for name in keep)
    _prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)
    if effective >> _SETPCAP & 1:
        number = 0
        while _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) >= 0:
            if not kept >> number & 1:
                _prctl("bounding set", _PR_CAPBSET_DROP, number)
            number += 1
    _prctl("ambient set", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    if account is not None and account.pw_uid != os.getuid():
        _prctl("keepcaps", _PR_SET_KEEPCAPS, 1)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
        _prctl("keepcaps", _PR_SET_KEEPCAPS, 0)
    _capset(kept, kept)
