"""Downloads wheels into a folder, going on where an earlier try stopped.

Usage: python3 fetch.py FOLDER [PROJECT FILE SHA256]...
pip itself starts an interrupted file again from its first byte, so the file is asked for here by ranges, from
the index that pip is configured for. Exit codes: 0 all there; 3 the connection broke, the part is kept;
4 this way does not work here (the caller then uses pip).
"""

import errno, hashlib, http.client, json, os, ssl, subprocess, sys, time
import urllib.error, urllib.parse, urllib.request


def index_url():
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    if asked.returncode == 0 and asked.stdout.strip():
        return asked.stdout.strip()
    from pip._internal.models.index import PyPI

    return PyPI.simple_url


def locate(project, file):
    page = index_url().rstrip("/") + f"/{project}/"
    request = urllib.request.Request(page, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        for entry in json.load(answer)["files"]:
            if entry["filename"] == file:
                return urllib.parse.urljoin(page, entry["url"])
    raise LookupError(f"{file} is not on {page}")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def append(url, part):
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # Nothing is left to send.
            return
        raise
    with answer, open(part, "ab" if answer.status == 206 else "wb") as file:
        expected = answer.headers.get("Content-Length")
        got = 0
        while block := answer.read(1 << 18):
            file.write(block)
            got += len(block)
        if expected and got < int(expected):
            raise ConnectionError(f"got {got} of {expected} bytes")


def fetch(folder, project, file, digest):
    final = os.path.join(folder, file)
    part = final + ".part"
    if os.path.exists(final):
        return
    try:
        url = locate(project, file)
    except Exception as error:
        print(f"{project}: {error}", file=sys.stderr)
        # pip may know other places, or other certificates; without a network it only fails more slowly.
        elsewhere = os.environ.get("PIP_NO_INDEX") or os.environ.get("PIP_FIND_LINKS")
        reason = getattr(error, "reason", None)
        offline = isinstance(reason, OSError) and not isinstance(reason, ssl.SSLError)
        sys.exit(3 if offline and not elsewhere else 4)
    tries = 6
    for attempt in range(1, tries + 1):
        try:
            append(url, part)
            break
        except urllib.error.HTTPError as error:
            print(f"{file}: {error}", file=sys.stderr)
            sys.exit(4)
        except (OSError, http.client.HTTPException) as error:
            print(f"{file}: try {attempt} of {tries}: {error}", file=sys.stderr)
            if attempt == tries or getattr(error, "errno", None) == errno.ENOSPC:
                sys.exit(3)
            time.sleep(2 * attempt)
    if sha256(part) != digest:
        os.remove(part)
        print(f"{file}: wrong checksum, deleted", file=sys.stderr)
        sys.exit(3)
    os.replace(part, final)


folder, *rest = sys.argv[1:]
for project, file, digest in zip(rest[0::3], rest[1::3], rest[2::3]):
    fetch(folder, project, file, digest)
