"""The files of one of OpenAI's releases, downloaded once into a cache; downloads resume."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gpt2.errors import UserError
from gpt2.files import cache_folder, is_disk_full, require_free_space

URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"
URL_VARIABLE = "GPT2_RELEASE_URL"  # another place to get them: a mirror
RELEASE_FILES = (
    "checkpoint",
    "encoder.json",
    "hparams.json",
    "model.ckpt.index",
    "model.ckpt.meta",
    "vocab.bpe",
    "model.ckpt.data-00000-of-00001",  # last, and by far the largest
)
# sha256 of published files. The index has a checksum of every variable, so the one for 124M also
# covers its data file.
CHECKSUMS = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "checkpoint": "dd1b025d2e155283f5e300ce95bf6d5b6bc0f7fe010db73daa6975eb896ab9cb",
    "124M/hparams.json": "d9d56e4121c427164e0c55c6f03c08e1daf9002b9b672825112d19097b680318",
    "124M/model.ckpt.index": "71916f763f9746f9b2a06b12d91996cf1084ae008d0424543d39391c5f2dc687",
    "124M/model.ckpt.meta": "4668c448fa11531fd6700460487f73e82d3272960cea942252f8744bf225c77b",
}
SIZES_IN_BYTES = {"124M/model.ckpt.data-00000-of-00001": 497_759_232}
HEAD_SECONDS, READ_SECONDS = 4.0, 30.0
ATTEMPTS = 3  # in a row without a single byte
CHUNK = 1 << 20


@dataclass(frozen=True)
class _Remote:
    """One file at its source."""

    url: str
    size: int  # bytes
    sha256: str | None
    md5: str | None  # base64, if the server gives it


def fetch_release(size: str, base_url: str | None = None, cache: Path | None = None) -> Path:
    """The folder with the seven files of "124M", "355M", "774M" or "1558M".

    What is in the cache is not requested again. `UserError` if the source cannot be reached
    (within seconds), is interrupted (what has arrived is kept), or sends something else.
    """
    base_url = base_url or os.environ.get(URL_VARIABLE) or URL
    folder = (cache or cache_folder()) / size
    for name in RELEASE_FILES:
        if not (folder / name).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _fetch(_probe(f"{base_url.rstrip('/')}/{size}/{name}", f"{size}/{name}"), folder / name)
    return folder


def _probe(url: str, key: str) -> _Remote:
    """What the source says about a file. `UserError` if there is no source."""
    name = key.rpartition("/")[2]
    try:
        with _open(url, "HEAD", {}, HEAD_SECONDS) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        raise UserError(f"{url} answers {error.code} {error.reason}. Try again later.") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{url} cannot be reached ({reason}). Connect to the internet and try again, or "
            "convert a directory that has the release's files."
        ) from None
    length = headers.get("Content-Length", "")
    if not length.isdigit():
        raise UserError(f"{url} does not say how long it is, so it is not a release file.")
    if int(length) != SIZES_IN_BYTES.get(key, int(length)):
        wanted = SIZES_IN_BYTES[key]
        raise UserError(f"{url} has {int(length):,} bytes; the released file has {wanted:,}.")
    checksum = CHECKSUMS.get(key) or CHECKSUMS.get(name)
    return _Remote(url, int(length), checksum, headers.get("Content-MD5"))


def _fetch(remote: _Remote, path: Path) -> None:
    """Download into `path`.part, resuming where that ends; check it and rename it to `path`."""
    part = path.with_name(path.name + ".part")
    if _size(part) > remote.size:
        part.unlink()
    require_free_space(path, remote.size - _size(part))
    idle = 0
    bar = tqdm(
        total=remote.size, initial=_size(part), unit="B", unit_scale=True, desc=path.name,
        disable=None,  # on a terminal only
    )  # fmt: skip
    with bar:
        while _size(part) < remote.size:
            before = _size(part)
            try:
                _download_rest(remote, part, bar)
            except (OSError, http.client.HTTPException) as error:
                _refuse_full_disk(error, path)
                idle = 0 if _size(part) > before else idle + 1
                if idle == ATTEMPTS:
                    raise UserError(
                        f"Downloading {remote.url} failed ({getattr(error, 'reason', error)}). "
                        "What has arrived is kept; run the same command to resume."
                    ) from None
    _check(remote, part)
    os.replace(part, path)


def _download_rest(remote: _Remote, part: Path, bar: tqdm) -> None:
    """Append what is missing; OSError if the connection ends before the file does."""
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _open(remote.url, "GET", headers, READ_SECONDS) as answer:
        if have and answer.status != 206:  # the whole file again, from its first byte
            bar.update(-have)
            have = 0
        with open(part, "ab" if have else "wb") as file:
            while chunk := answer.read(min(CHUNK, remote.size - have)):
                file.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    if have < remote.size:
        raise ConnectionError("the connection ended early")


def _check(remote: _Remote, part: Path) -> None:
    for algorithm, wanted in (("sha256", remote.sha256), ("md5", remote.md5)):
        if wanted is None:
            continue
        digest = hashlib.new(algorithm, usedforsecurity=False)
        with open(part, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        if wanted not in (digest.hexdigest(), base64.b64encode(digest.digest()).decode()):
            part.unlink()
            raise UserError(
                f"{remote.url} arrived damaged: its {algorithm} is {digest.hexdigest()}, not "
                f"{wanted}. It was removed; try again."
            )


def _open(url: str, method: str, headers: dict[str, str], seconds: float):
    request = urllib.request.Request(url, headers=headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(_proxies(request)))
    return opener.open(request, timeout=seconds)


def _proxies(request: urllib.request.Request) -> dict[str, str]:
    """The environment's, all_proxy included, which urllib alone would go around. `UserError` for a
    kind that it cannot speak to."""
    named = urllib.request.getproxies()
    proxies = {kind: named[kind] for kind in ("http", "https") if kind in named}
    if "all" in named:
        proxies = {"http": named["all"], "https": named["all"]} | proxies
    kind = proxies.get(request.type, "").lower().rpartition("://")[0]
    if kind not in ("", "http", "https") and not urllib.request.proxy_bypass(request.host):
        raise UserError(
            f"The environment names a proxy of the kind {kind}, and releases come through HTTP "
            "proxies only. Set https_proxy to one, or unset it and all_proxy."
        )
    return proxies


def _refuse_full_disk(error: Exception, path: Path) -> None:
    if is_disk_full(error):
        raise UserError(
            f"The disk of {path.parent} is full. Make room and run the same command to resume."
        ) from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
