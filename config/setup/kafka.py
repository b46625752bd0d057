"""Puts a real Apache Kafka broker for the tests into `.kafka/libs` of the checkout.

The jars come from Maven Central through Maven itself, which resolves `kafka-pom.xml` beside this
file and refuses a jar that differs from its published checksum (`-C`: Maven 3 only warns otherwise);
its own cache makes an interrupted run resume. A stamp of the pom makes the second run a no-op. Only
the tests that talk to Kafka need this: Java 17 and Maven are asked for here and nowhere else.

    python3 config/setup/kafka.py
"""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
POM = HERE / "kafka-pom.xml"
JAVA_AT_LEAST = 17
DEBIAN = "sudo apt-get install -y openjdk-17-jdk-headless maven"
# The jar that holds the broker's main class: if it is there, so is all it was resolved with.
BROKER_JAR = "kafka_2.13-*.jar"


class SetupError(Exception):
    """What is missing, and the line that puts it right."""


def install(root: pathlib.Path) -> pathlib.Path:
    """Fills `<root>/.kafka/libs` and returns it; does nothing if it is already as the pom says."""
    home = root / ".kafka"
    libs = home / "libs"
    stamp = home / "stamp"
    wanted = hashlib.sha256(POM.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text().strip() == wanted and any(libs.glob(BROKER_JAR)):
        return libs

    java = check_java()
    maven = shutil.which("mvn")
    if maven is None:
        raise SetupError(f"mvn is not on the PATH; the Kafka tests need Maven: {DEBIAN}")

    # Resolved beside its place and moved there whole, so that a half-filled folder is never used.
    fresh = home / "libs.part"
    shutil.rmtree(fresh, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    print("kafka: fetching Apache Kafka 4.3.1 from Maven Central (44 MB) ...", flush=True)
    run_maven(maven, fresh)
    if not any(fresh.glob(BROKER_JAR)):
        raise SetupError(f"maven finished but left no {BROKER_JAR} in {fresh}; see {POM}")
    shutil.rmtree(libs, ignore_errors=True)
    fresh.rename(libs)
    stamp.write_text(wanted + "\n")
    jars = list(libs.glob("*.jar"))
    size = sum(jar.stat().st_size for jar in jars) / 1e6
    print(f"kafka: {len(jars)} jars, {size:.0f} MB in {libs} (java: {java})", flush=True)
    return libs


def check_java() -> str:
    """The path of a Java that can run the broker; `JAVA_HOME` goes before the PATH."""
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    if java is None or not os.access(java, os.X_OK):
        where = f"JAVA_HOME={home} holds no bin/java" if home else "java is not on the PATH"
        raise SetupError(f"{where}; the Kafka tests need Java {JAVA_AT_LEAST} or later: {DEBIAN}")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    text = said.stderr + said.stdout
    found = re.search(r'version "(\d+)', text)
    if said.returncode != 0 or found is None:
        raise SetupError(f"{java} -version failed: {text.strip()[:300]}; reinstall: {DEBIAN}")
    if int(found.group(1)) < JAVA_AT_LEAST:
        raise SetupError(
            f"{java} is Java {found.group(1)}; Kafka 4 needs {JAVA_AT_LEAST} or later: {DEBIAN}"
        )
    return java


def run_maven(maven: str, into: pathlib.Path) -> None:
    """Copies the runtime jars of the pom; retries once, since the network is what fails here."""
    command = [
        maven, "-B", "-C", "-ntp", "-q", "-f", str(POM),
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={into}",
    ]  # fmt: skip
    for attempt in (1, 2):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode == 0:
            return
        if attempt == 1:
            print("kafka: maven failed, trying once more ...", flush=True)
    errors = [line for line in done.stdout.splitlines() if "ERROR" in line][:6]
    raise SetupError(
        "maven could not fetch the jars (is Maven Central, or the mirror in ~/.m2/settings.xml,"
        " reachable?):\n  " + "\n  ".join(errors or done.stdout.splitlines()[-6:])
    )


if __name__ == "__main__":
    try:
        install(HERE.parent.parent)
    except SetupError as error:
        sys.exit(f"kafka: {error}")
