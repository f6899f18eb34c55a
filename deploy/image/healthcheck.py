"""HEALTHCHECK of the image: exit code 0 if the gateway's liveness endpoint answers 200, else 1.

RUNWARD_HEALTH_URL names another URL than that of the default operations port. A certificate is not verified: the
connection does not leave the container, and the certificate is made out to the public name.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request

DEFAULT_URL = "http://127.0.0.1:9090/healthz"
_TIMEOUT = 3.0  # seconds


def main() -> int:
    """Send one request; returns the exit code, and prints the reason of a failure to standard error."""
    url = os.environ.get("RUNWARD_HEALTH_URL") or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        sys.stderr.write("unhealthy: RUNWARD_HEALTH_URL must begin with http:// or https://\n")
        return 1
    handlers = (
        urllib.request.ProxyHandler({}),  # the loopback interface is reached directly
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),  # noqa: S323, SLF001 - see above
    )
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=_TIMEOUT) as response:
            status = response.status
    except (OSError, ValueError) as error:  # HTTPError and URLError are OSError
        sys.stderr.write(f"unhealthy: {error}\n")
        return 1
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
