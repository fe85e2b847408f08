"""An S3 server that keeps its buckets in memory: moto's application, served by Granian, which speaks TLS to its end."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from benchmarks.servers import end, free_port
from tests.eventually import eventually

OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
)
application = DomainDispatcherApplication(create_backend_app)


@contextmanager
def s3_server(directory: Path, bucket: str) -> Iterator[tuple[int, Path]]:
    """Serve an empty bucket on a port of 127.0.0.1 until the context ends; yield the port and the certificate."""
    certificate, key, port = directory / "s3.pem", directory / "s3.key", free_port()
    # Some clients compare its name, others its address.
    names = ["-addext", "subjectAltName=DNS:127.0.0.1,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*OPENSSL.split(), *names, *files], check=True, capture_output=True)
    certificate.chmod(0o644)
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-certificate", str(certificate), "--ssl-keyfile", str(key), "tests.s3:application"),
    ]
    with (directory / "s3.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(verify=ssl.create_default_context(cafile=certificate)) as client:
            eventually(lambda: _made(client, f"https://127.0.0.1:{port}/{bucket}"))
        yield port, certificate
    finally:
        end(process)


def _made(client: httpx.Client, url: str) -> bool:
    try:
        return client.put(url).is_success
    except httpx.TransportError:
        return False
