"""Whom HTTPS clients trust."""

from __future__ import annotations

import functools
import ssl


@functools.cache
def trusted() -> ssl.SSLContext:
    """What ``httpx`` trusts by default, read once a process: it takes 20 ms of the processor at each request otherwise,
    whether it is https or not."""
    import httpx

    return httpx.create_ssl_context()
