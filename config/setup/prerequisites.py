"""What a machine must have before Segue can be built, and the line that brings each missing thing.

All that is missing is named at once, so that one `apt-get install` is enough.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys

from wheels import SetupError

RUST_AT_LEAST = (1, 92)
JAVA_AT_LEAST = 17
PYTHON_AT_LEAST = (3, 9)
RUSTUP = "curl --proto '=https' -sSf https://sh.rustup.rs | sh   (or: rustup update stable)"


def check(kafka: bool) -> None:
    """Raises one error that lists everything this machine lacks."""
    missing = []
    packages = []

    def need(problem, package=None, remedy=None):
        missing.append(f"{problem}: {remedy or 'apt-get install ' + package}")
        if package:
            packages.append(package)

    if sys.version_info < PYTHON_AT_LEAST:
        need(f"python3 is {sys.version.split()[0]}, 3.9 or later is needed", "python3")
    if importlib.util.find_spec("pip") is None:
        need(f"{sys.executable} has no pip", "python3-pip")
    for tool in ("rustc", "cargo"):
        found = version_of([tool, "--version"])
        if found is None:
            need(f"{tool} is not installed", remedy=RUSTUP)
        elif found[:2] < RUST_AT_LEAST:
            need(f"{tool} is {dotted(found)}, 1.92 or later is needed", remedy=RUSTUP)
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "c++", "g++")):
        need("no C++ compiler (for libtorch's bindings and librdkafka)", "g++")
    if shutil.which("make") is None:
        need("make is not installed", "make")
    if shutil.which("pkg-config") is None:
        need("pkg-config is not installed", "pkg-config")
        # Without it the headers cannot be asked for; naming both packages does no harm.
        need("OpenSSL's headers cannot be looked for (librdkafka)", "libssl-dev")
        need("zlib's headers cannot be looked for (librdkafka)", "zlib1g-dev")
    else:
        if subprocess.run(["pkg-config", "--exists", "openssl"], check=False).returncode:
            need("OpenSSL's headers are missing (librdkafka)", "libssl-dev")
        if subprocess.run(["pkg-config", "--exists", "zlib"], check=False).returncode:
            need("zlib's headers are missing (librdkafka)", "zlib1g-dev")
    if kafka:
        java = version_of([java_path(), "-version"])
        if java is None:
            need("Java is not installed (Kafka broker of the tests)", "openjdk-17-jdk-headless")
        elif java[0] < JAVA_AT_LEAST:
            need(f"Java is {dotted(java)}, 17 or later is needed", "openjdk-17-jdk-headless")
        if shutil.which("mvn") is None:
            need("mvn is not installed (fetches the Kafka broker)", "maven")

    if missing:
        lines = ["this machine lacks:"] + ["  - " + line for line in missing]
        if packages:
            once = " ".join(dict.fromkeys(packages))
            lines.append(f"all at once: sudo apt-get update && sudo apt-get install -y {once}")
        raise SetupError("\n".join(lines))


def java_path() -> str:
    """The Java that would be used: `JAVA_HOME` goes before the PATH."""
    home = os.environ.get("JAVA_HOME")
    return os.path.join(home, "bin", "java") if home else "java"


def version_of(command):
    """The first dotted number a tool prints about itself, as a tuple; nothing if it does not run."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", said.stdout + said.stderr)
    if said.returncode != 0 or found is None:
        return None
    return tuple(int(part or 0) for part in found.groups())


def dotted(version) -> str:
    """A version tuple as people write it."""
    return ".".join(str(part) for part in version)
