"""Starts the gateway that TensorZero's Python package embeds; the interpreter is that of its environment.

python tensorzero_gateway.py CONFIG_FILE PORT_FILE

The package chooses the port, which is written to PORT_FILE.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tensorzero.tensorzero import _start_http_gateway


def main(config: str, port_file: str) -> None:
    """Serve on loopback until killed."""
    gateway = _start_http_gateway(
        config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
    )
    partial = Path(port_file + ".new")
    partial.write_text(gateway.base_url.partition("//")[2].partition("/")[0].rpartition(":")[2])
    partial.rename(port_file)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
