"""Large files over HTTP that go on where they stopped, from the package index that pip uses.

`pip download` begins at the first byte again whenever it is interrupted. So pip is asked which index
it is configured for, the index is asked where the file lies, and the file is fetched in ranges.
"""

import base64
import html
import http.client
import os
import pathlib
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

PYPI = "https://pypi.org/simple"
# How often in a row a connection may break without having brought anything.
TRIES = 4
PAUSE_SECONDS = 2
TIMEOUT_SECONDS = 60
PIECE = 1 << 20
# All that urllib raises for a server or a network that does not do its part.
ERRORS = (OSError, http.client.HTTPException, ValueError)


def locate(package: str, file: str) -> str:
    """The address of a package's file, as the configured index tells it."""
    page = f"{index().rstrip('/')}/{package}/"
    with get(page) as answer:
        base, text = answer.geturl(), answer.read().decode("utf-8", "replace")
    for link in re.findall(r"""<a\s[^>]*?href=["']([^"']+)["']""", text, re.IGNORECASE):
        address = urllib.parse.urldefrag(html.unescape(link)).url
        if urllib.parse.unquote(address).endswith("/" + file) or address == file:
            return urllib.parse.urljoin(base, address)
    raise OSError(f"{page} does not list {file}")


def index() -> str:
    """The index that pip takes packages from: its environment, its files, or PyPI."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = dict(re.findall(r"^(\S+)\.index-url='(.*)'$", said.stdout, re.MULTILINE))
    for section in (":env:", "download", "global"):
        if section in found:
            return found[section]
    return PYPI


def fetch(url: str, part: pathlib.Path, tell=lambda have, total: None) -> None:
    """Appends to `part` what it lacks of the file at `url`. What arrives is kept, whatever happens."""
    failures = 0
    while True:
        before = size(part)
        try:
            if append(url, part, tell):
                return
            error = OSError(f"the connection ended at byte {size(part)}")
        except urllib.error.HTTPError as answered:
            if answered.code == 416:  # nothing lies beyond what is here: it is whole, or not it
                return
            error = answered
        except ERRORS as broken:
            error = broken
        failures = 0 if size(part) > before else failures + 1
        refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
        if refused or failures >= TRIES:
            raise error
        time.sleep(PAUSE_SECONDS)


def append(url: str, part: pathlib.Path, tell) -> bool:
    """One connection's worth; whether the file is whole then."""
    have = size(part)
    with get(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        # 200 to a request for a range: the server knows no ranges and begins at the first byte.
        resumed = answer.status == 206
        have = have if resumed else 0
        left = answer.headers.get("Content-Length")
        total = have + int(left) if left else None
        tell(have, total)
        with open(part, "ab" if resumed else "wb") as file:
            while piece := answer.read(PIECE):
                file.write(piece)
    return total is None or size(part) >= total


def get(url: str, headers=None):
    """An open answer, with the credentials that the address holds and the certificates pip uses."""
    parts = urllib.parse.urlsplit(url)
    headers = dict(headers or {})
    if parts.username:
        secret = urllib.parse.unquote(f"{parts.username}:{parts.password or ''}")
        headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    bundle = os.environ.get("PIP_CERT") or os.environ.get("REQUESTS_CA_BUNDLE")
    return urllib.request.urlopen(
        urllib.request.Request(url, headers=headers),
        timeout=TIMEOUT_SECONDS,
        context=ssl.create_default_context(cafile=bundle),
    )


def size(path: pathlib.Path) -> int:
    """The bytes of a file; of one that is not there, 0."""
    return path.stat().st_size if path.exists() else 0
