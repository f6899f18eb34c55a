"""Runward, the bare relay, and nginx as the limit of what a proxy can do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from typing_extensions import override

from bench.compare.peer import (
    Launch,
    Peer,
    Place,
    chat_body,
    http_request,
    install_python_packages,
    run_body,
    run_installer,
    site_packages,
)
from bench.processes import HERE, KEY, gateway_config

ROOT = HERE.parent
_NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {files}/pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_max_body_size 1m;
    client_body_buffer_size 256k;
    client_body_temp_path {files}/body;
    proxy_temp_path {files}/proxy;
    fastcgi_temp_path {files}/fastcgi;
    uwsgi_temp_path {files}/uwsgi;
    scgi_temp_path {files}/scgi;
    keepalive_requests 1000000000;
    upstream provider {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer bench-key-0123";
            proxy_buffers 16 16k;
        }}
    }}
}}
"""


class Runward(Peer):
    """This working tree, with a key, limits, a quota, metrics, logs, validation, breaker and retry budget."""

    name = "runward"
    title = "Runward"

    @override
    def install(self, folder: Path) -> None:
        install_python_packages(folder, "--require-hashes", "-r", str(ROOT / "deploy/image/runtime.lock"))
        target = ["--target", str(site_packages(folder)), "--no-index", "--no-deps", "--no-build-isolation"]
        run_installer([sys.executable, "-m", "pip", "--quiet", "install", *target, str(ROOT)])

    @override
    def version(self, folder: Path) -> str:
        commit = run_installer(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]).strip()
        return f"{metadata.version('runward')} at {commit}"

    @override
    def launch(self, place: Place) -> Launch:
        config = place.files / "gateway.yaml"
        config.write_text(json.dumps(gateway_config(place.upstream, port=place.port)))  # JSON is YAML
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
        return Launch(command, {"BENCH_KEY": "bench-key-0123"})

    @override
    def request(self, place: Place, size: int) -> bytes:
        return http_request("/run", run_body(size), {"Authorization": f"Bearer {KEY}"})

    @override
    def package_tree(self, folder: Path) -> Path:
        return site_packages(folder)


class BareRelay(Peer):
    """aiohttp's server and client, and nothing else."""

    name = "relay"
    title = "bare relay"

    @override
    def install(self, folder: Path) -> None:
        install_python_packages(folder, *(f"{name}=={metadata.version(name)}" for name in ("aiohttp", "uvloop")))

    @override
    def version(self, folder: Path) -> str:
        return f"aiohttp {metadata.version('aiohttp')}, uvloop {metadata.version('uvloop')}"

    @override
    def launch(self, place: Place) -> Launch:
        return Launch([sys.executable, str(HERE / "bare_relay.py"), place.upstream_url, str(place.port)])

    @override
    def request(self, place: Place, size: int) -> bytes:
        return http_request("/run", run_body(size), {"Authorization": "Bearer client-key-0123"})

    @override
    def package_tree(self, folder: Path) -> Path:
        return site_packages(folder)


class Nginx(Peer):
    """A reverse proxy with one worker that replaces the key and writes no log."""

    name = "nginx"
    title = "nginx"

    @override
    def install(self, folder: Path) -> None:
        run_installer(["apt-get", "--quiet", "download", "nginx"], cwd=folder)
        for package in folder.glob("nginx_*.deb"):
            run_installer(["dpkg", "-x", str(package), str(folder / "root")])
            package.unlink()

    @override
    def version(self, folder: Path) -> str:
        done = subprocess.run([self._program(folder), "-v"], capture_output=True, text=True, check=False)
        found = re.search(r"nginx/(\S+)", done.stderr)
        return found[1] if found else "unknown"

    @override
    def launch(self, place: Place) -> Launch:
        user = "user root;" if os.geteuid() == 0 else ""
        text = _NGINX.format(user=user, files=place.files, upstream=place.upstream, port=place.port)
        config = place.files / "nginx.conf"
        config.write_text(text)
        return Launch([self._program(place.packages), "-e", "stderr", "-p", str(place.files), "-c", str(config)])

    @override
    def request(self, place: Place, size: int) -> bytes:
        return http_request("/v1/chat/completions", chat_body(size), {"Authorization": "Bearer client-key-0123"})

    @staticmethod
    def _program(folder: Path) -> str:
        return str(folder / "root/usr/sbin/nginx")
