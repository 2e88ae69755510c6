"""Pick the backend, once, and say which it is.  The only such choice there is."""

from __future__ import annotations

import importlib
import os
import sys

from . import _command  # before numpy is
from .codec import Codec
from .errors import BackendError, ConfigError, OverlayError
from .tunnel import Tunnel

_MODULES = {
    "native": "overlay.native",
    "cffi": "overlay._cffi",
    "reference": "overlay.reference",
}


def load(name: str) -> Codec:
    """The codec of the backend of this name; raises :class:`BackendError` if it is not built."""
    if name not in _MODULES:
        raise ConfigError("OVERLAY_BACKEND", name, "one of " + ", ".join(_MODULES))
    try:
        codec: Codec = importlib.import_module(_MODULES[name]).codec
    except ImportError as error:
        raise BackendError(f"the {name} backend is not available: {error}") from error
    return codec


def _choose() -> Codec:
    asked = os.environ.get("OVERLAY_BACKEND")
    if asked:
        return load(asked)
    for name in ("native", "cffi"):
        try:
            return load(name)
        except BackendError:
            continue
    return load("reference")


try:
    codec = _choose()
except OverlayError as error:
    if not _command.RUNNING:
        raise
    sys.exit(_command.refuse(error))
Tunnel.codec = codec
