"""A Python of its own for references and peers: PyTorch, transformers, PEFT, pandas, Hugging Face
datasets and what they stand on.

PyPI's PyTorch is built for CUDA and asks for 2 GB of NVIDIA's libraries, most of which a CPU never
calls. Two small ones are really needed (see `peers.txt`). The others only have to be there when
torch is imported, so they are put in as shells: libraries that have the right names and whose
functions end the process with a line that says why.

The folder is either whole, with a stamp of its pins inside, or made anew; what was fetched is kept
in the scratch folder until then.
"""

import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

import wheels
from wheels import SetupError

HERE = pathlib.Path(__file__).resolve().parent
PINS = HERE / "peers.txt"
# What tells our environment from another.
PROMPT = "segue-peers"
# Libraries that torch names and that are not fetched.
SHELLS = [
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcufft.so.12",
    "libcufile.so.0",
    "libcurand.so.10",
    "libcusolver.so.12",
    "libcusparse.so.12",
    "libcusparseLt.so.0",
    "libnccl.so.2",
    "libnvshmem_host.so.3",
]
# How the names of their functions begin. libcudart's begin like `cuda` too, and are real.
FUNCTIONS = re.compile(r"(cu(blas|dnn|fft|File|rand|solver|sparse)|nccl|nvshmem)\w+")
CALLED = (
    "this PyTorch was set up for the CPU alone (config/setup/peers.py): it has no CUDA libraries"
)
# What must work in the end, and what is shown for it.
TRIAL = (
    "import torch, transformers, peft, gguf, safetensors, accelerate, numpy, pandas, datasets;"
    " assert torch.ones(3, 3).mm(torch.ones(3, 3)).sum() == 27 and not torch.cuda.is_available();"
    " print(f'torch {torch.__version__}, transformers {transformers.__version__},"
    " peft {peft.__version__}')"
)


def install(root: pathlib.Path, scratch: pathlib.Path, pinned: dict) -> None:
    """Makes `.venv/` hold what `peers.txt` lists; `pinned` has torch's wheels, one per Python."""
    target = root / ".venv"
    package = for_this_machine(pinned["packages"])
    made_of = [PINS.read_text(), package, SHELLS, sys.version]
    stamp = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    if wheels.stamped(target, stamp):
        print(f"peers: {target} is up to date")
        return
    refuse_foreign(target)
    wheels.check_space("peers", pinned["needs_mb"], target.parent)
    downloads = scratch / "downloads" / "peers"
    downloads.mkdir(parents=True, exist_ok=True)
    wheels.fetch("peers", package, downloads, scratch)
    print("peers: fetching the others ...", flush=True)
    pip("download", "--no-deps", "--dest", downloads, "--requirement", PINS)
    print(f"peers: installing into {target} ...", flush=True)
    make = [sys.executable, "-m", "venv", "--clear", "--without-pip", "--prompt", PROMPT, target]
    run(make, "no environment could be made")
    python = target / "bin" / "python"
    pip(
        "--python", python, "install", "--no-deps", "--no-index", "--no-compile",
        "--find-links", downloads, "--requirement", PINS,
    )  # fmt: skip
    lay_shells(next(target.glob("lib/python3*/site-packages/torch/lib")), scratch)
    said = run([python, "-c", TRIAL], "what was installed does not run")
    (target / wheels.STAMP).write_text(stamp + "\n")
    shutil.rmtree(downloads, ignore_errors=True)
    print(f"peers: ready, {said.strip().splitlines()[-1]}: {python}", flush=True)


def refuse_foreign(target: pathlib.Path) -> None:
    """Leaves alone what somebody else put where the environment goes."""
    try:
        ours = PROMPT in (target / "pyvenv.cfg").read_text()
    except OSError:
        ours = not target.exists()
    if not ours:
        raise SetupError(
            f"peers: {target} is there and was not made by this; move it away and run this again"
        )


def for_this_machine(packages: list) -> dict:
    """The one of torch's wheels that the running Python can load."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError(
            f"peers: the pinned wheels are for Linux on x86_64, this is {platform.system()} on"
            f" {platform.machine()}"
        )
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    for package in packages:
        if package["python"] == mine:
            return package
    known = ", ".join(package["python"] for package in packages)
    raise SetupError(
        f"peers: {sys.executable} is Python {mine}, PyTorch is pinned for {known}; run this with one"
        " of them, as in: python3.12 config/setup/setup.py peers"
    )


def pip(*arguments) -> None:
    """Runs pip, which keeps what it had fetched if it is interrupted."""
    quiet = ["--disable-pip-version-check", "--quiet", "--retries", "3"]
    # pip stages downloads and unpacked wheels in its temporary folder, and /tmp is often small.
    command = [sys.executable, "-m", "pip", *map(str, arguments), *quiet]
    run(command, "pip failed; is the network up? run this again to go on")


def run(command, problem: str) -> str:
    """What a command prints; its last lines are in the error if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = "\n  ".join(done.stdout.strip().splitlines()[-8:])
        raise SetupError(f"peers: {problem}:\n  {said}")
    return done.stdout


def lay_shells(lib: pathlib.Path, scratch: pathlib.Path) -> None:
    """Puts the shells beside torch's own libraries, where those look first."""
    print("peers: laying shells of the CUDA libraries that a CPU never calls ...", flush=True)
    named = run(["nm", "-D", "--undefined-only", *sorted(lib.glob("libtorch*.so"))], "nm failed")
    functions = sorted(
        {
            name
            for name in (line.split()[-1].split("@")[0] for line in named.splitlines() if " U " in line)
            if FUNCTIONS.fullmatch(name)
        }
    )
    source = scratch / "shells.cc"
    source.write_text(
        "#include <cstdio>\n#include <cstdlib>\n"
        f'static void called() {{ std::fputs("{CALLED}\\n", stderr); std::abort(); }}\n'
        + "".join(f'extern "C" void {name}() {{ called(); }}\n' for name in functions)
    )
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    for name in SHELLS:
        # A symbol is looked for in all libraries in turn: one shell has the functions of all.
        content = [source] if name == SHELLS[0] else ["-x", "c++", os.devnull]
        command = [compiler, "-shared", "-fPIC", "-O1", f"-Wl,-soname,{name}", "-o", lib / name]
        run(command + content, "the C++ compiler failed")
    source.unlink()
