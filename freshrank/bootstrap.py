"""Set-up: everything that `make demo` and `make test` need, in one step that can be repeated and interrupted.

Run it with a bare Python 3.11, `python3.11 freshrank/bootstrap.py`; it uses the standard library alone, because nothing
else exists yet. Each part has a stamp, a hash of what it is made from. A part whose stamp agrees and whose product is
there is left alone, so a second run only hashes a few files; an interrupted run goes on with the part it was in.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETUP = ROOT / ".setup"
UV = SETUP / "uv" / "bin" / "uv"
UV_VERSION = "0.13.8"
ENVIRONMENTS = {"project": ".venv", "airflow": ".envs/airflow", "triton": ".envs/triton", "gateway": ".envs/gateway"}
POM = ROOT / "freshrank" / "stack" / "kafka_dist" / "pom.xml"
RECIPE = "1"  # raise it when the recipe below changes in a way that its inputs do not show

# what is looked for -> the Debian package that has it
SYSTEM = {
    "java": "openjdk-17-jre-headless",
    "mvn": "maven",
    "libpython3.11": "libpython3.11",
    # This package, not redis-server: it ships the same binary and starts no daemon of its own.
    "redis-server": "redis-tools",
    "chromium": "chromium",
    "venv": "python3.11-venv",
}


class SetupError(Exception):
    """Something that the user has to mend; its text is one line that says what to do."""


@dataclass(frozen=True)
class Part:
    """One part of the set-up.

    Args:
        name: Its name, also that of its stamp.
        says: What it does, for the progress line.
        inputs: Files whose content decides whether it is up to date.
        product: A path that exists when it is done.
        make: Does it.
    """

    name: str
    says: str
    inputs: tuple[Path, ...]
    product: Path
    make: Callable[[], None]

    def digest(self) -> str:
        """Hash of everything the part is made from."""
        total = hashlib.sha256(f"{RECIPE}\0{self.name}\0{ROOT}\0{UV_VERSION}\0{base_python()}".encode())
        for file in self.inputs:
            total.update(b"\0" + file.read_bytes())
        return total.hexdigest()

    @property
    def stamp(self) -> Path:
        """Where the hash of the last finished run is kept."""
        return SETUP / "stamps" / self.name

    def is_done(self) -> bool:
        """Whether the part is there and up to date."""
        try:
            return self.stamp.read_text(encoding="utf-8") == self.digest() and self.product.exists()
        except FileNotFoundError:
            return False


def base_python() -> str:
    """The Python 3.11 that the environments are made from: Debian's where there is one, else the one running this.

    Triton's Python backend links Debian's `libpython3.11`, and an environment of the same build suits it best.
    """
    return "/usr/bin/python3.11" if Path("/usr/bin/python3.11").exists() else sys.executable


def find_libpython() -> Path | None:
    """`libpython3.11.so.1.0`, which Triton's Python backend links, or nothing."""
    for folder in ("usr/lib/*", "usr/lib", "usr/local/lib"):
        for found in sorted(Path("/").glob(f"{folder}/libpython3.11.so.1.0")):
            return found
    beside = Path(sys.base_prefix) / "lib" / "libpython3.11.so.1.0"
    return beside if beside.exists() else None


def find_redis() -> str | None:
    """The Redis server's binary: under its own name, or as Debian's redis-tools ships it.

    Redis decides by the name it is called under whether it is the server or the checker of dumps.
    """
    return shutil.which("redis-server") or shutil.which("redis-check-rdb")


def find_chromium() -> str | None:
    """A Chromium, under any of its usual names."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing_system() -> list[str]:
    """Debian packages that have to be installed first."""
    found: dict[str, bool] = {
        "java": shutil.which("java") is not None,
        "mvn": shutil.which("mvn") is not None,
        "libpython3.11": find_libpython() is not None,
        "redis-server": find_redis() is not None,
        "chromium": find_chromium() is not None,
        "venv": UV.exists() or _can_make_environments(),
    }
    return [SYSTEM[name] for name, there in found.items() if not there]


def _can_make_environments() -> bool:
    return subprocess.run([base_python(), "-c", "import ensurepip, venv"], capture_output=True).returncode == 0


def make_system() -> None:
    """Install the system packages that are missing; without root say what to install."""
    packages = missing_system()
    if packages:
        if shutil.which("apt-get") is None:
            raise SetupError(f"missing system packages: install {' '.join(packages)} (Debian's names), then run again")
        if os.geteuid() != 0:
            raise SetupError(
                f"missing system packages: run `sudo apt-get install -y {' '.join(packages)}`, then run again"
            )
        say(f"         {' '.join(packages)}")
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], environment, log="apt")
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], environment, log="apt")
        still = missing_system()
        if still:
            raise SetupError(f"installed, but still not found: {' '.join(still)}; see {SETUP / 'logs' / 'apt.log'}")
    _check_java()
    binary = find_redis()
    assert binary is not None
    link = SETUP / "bin" / "redis-server"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(binary)
    if "Redis server" not in subprocess.run([link, "--version"], capture_output=True, encoding="utf-8").stdout:
        raise SetupError(f"{binary} is no Redis server: run `apt-get install redis-tools`, then run again")


def _check_java() -> None:
    shown = subprocess.run(["java", "-version"], capture_output=True, encoding="utf-8").stderr
    words = shown.split('"')
    major = words[1].split(".")[0] if len(words) > 1 else ""
    if not major.isdigit() or int(major) < 17:
        raise SetupError(
            f"Kafka needs Java 17 or newer and `java` is {words[1] if len(words) > 1 else 'unknown'}: "
            "install openjdk-17-jre-headless and put it first on PATH"
        )


def make_uv() -> None:
    """Install uv, the installer of everything else, with pip into a folder of its own."""
    shutil.rmtree(SETUP / "uv", ignore_errors=True)
    run([base_python(), "-m", "venv", str(SETUP / "uv")], log="uv")
    run([str(SETUP / "uv" / "bin" / "python"), "-m", "pip", "install", "-q", f"uv=={UV_VERSION}"], log="uv")


def uv_environment() -> dict[str, str]:
    """Variables that hand pip's configuration of this machine on to uv, which reads its own alone.

    What is configured for uv itself is kept. Certificates are the system's, as a company's proxy needs them.
    """
    variables = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "1", "UV_HTTP_TIMEOUT": "180"}
    shown = subprocess.run(
        [str(SETUP / "uv" / "bin" / "python"), "-m", "pip", "config", "list"], capture_output=True, encoding="utf-8"
    ).stdout
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
    }
    for line in shown.splitlines():  # later lines win in pip: global, user, site, environment
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in names:
            variables[names[key]] = " ".join(value.strip("'\"").replace("\\n", " ").split())
    return {name: value for name, value in variables.items() if name not in os.environ}


def make_environment(name: str) -> None:
    """One Python environment, exactly as its compiled requirements say, byte code compiled."""
    folder, variables = ROOT / ENVIRONMENTS[name], uv_environment()
    if not (folder / "bin" / "python").exists():
        run([str(UV), "venv", "-q", "--no-project", "--clear", "--python", base_python(), str(folder)], variables)
    target = ["--python", str(folder / "bin" / "python"), "--compile-bytecode"]
    run([str(UV), "pip", "sync", *target, str(ROOT / "requirements" / f"{name}.txt")], variables, bars("uv"))
    if name == "gateway":
        # What an editable install writes, without a build backend in an environment that is to stay small.
        (folder / "lib" / "python3.11" / "site-packages" / "freshrank.pth").write_text(f"{ROOT}\n", encoding="utf-8")


def make_command() -> None:
    """The project itself in its environment, editable, with the `freshrank` command."""
    python = str(ROOT / ".venv" / "bin" / "python")
    target = ["--python", python, "--no-deps", "--no-build-isolation"]
    run([str(UV), "pip", "install", "-q", *target, "-e", str(ROOT)], uv_environment())


def make_kafka() -> None:
    """Kafka's jars from their Maven coordinates."""
    target, work = SETUP / "kafka", SETUP / "kafka.new"
    shutil.rmtree(work, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    run([*command, f"-DoutputDirectory={work}", "-DincludeScope=runtime"], log="maven")
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)


def make_triton() -> None:
    """The Python backend's folder as tritonserver wants it, copied out of the wheel, and a check that it links."""
    site = ROOT / ENVIRONMENTS["triton"] / "lib" / "python3.11" / "site-packages"
    server = site / "pytriton" / "tritonserver"
    target, work = SETUP / "triton", SETUP / "triton.new"
    shutil.rmtree(work, ignore_errors=True)
    python = work / "backends" / "python"
    python.mkdir(parents=True)
    backend = server / "backends" / "python"
    stub = server / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    for file in (backend / "libtriton_python.so", *sorted(backend.glob("*.py")), stub):
        shutil.copy2(file, python / file.name)
    (python / stub.name).chmod(0o755)
    (server / "bin" / "tritonserver").chmod(0o755)
    library = find_libpython()
    assert library is not None  # the system part found it
    (work / "lib").mkdir()
    shutil.copy2(library, work / "lib" / "libpython3.11.so.1.0")
    # A stub that cannot link makes every model load hang for ever: find out here.
    paths = f"{site / 'nvidia_pytriton.libs'}:{work / 'lib'}"
    linked = subprocess.run(
        ["ldd", str(python / stub.name)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "LD_LIBRARY_PATH": paths},
    ).stdout
    lost = [line.split()[0] for line in linked.splitlines() if "not found" in line]
    if lost:
        raise SetupError(f"Triton's Python backend does not link: install what has {', '.join(lost)}, then run again")
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)


def parts() -> list[Part]:
    """All parts, in order."""
    made = [
        Part("system", "system packages", (), SETUP / "bin" / "redis-server", make_system),
        Part("uv", f"uv {UV_VERSION}, the installer", (), UV, make_uv),
    ]
    for name, folder in ENVIRONMENTS.items():
        inputs = (ROOT / "requirements" / f"{name}.txt",)
        make = functools.partial(make_environment, name)
        made.append(Part(name, f"environment {folder}", inputs, ROOT / folder / "bin" / "python", make))
    command = ROOT / ".venv" / "bin" / "freshrank"
    made.append(Part("command", "the freshrank command", (ROOT / "pyproject.toml",), command, make_command))
    made.append(Part("kafka", "Kafka's jars", (POM,), SETUP / "kafka", make_kafka))
    triton = (ROOT / "requirements" / "triton.txt",)
    made.append(Part("triton-layout", "Triton's Python backend", triton, SETUP / "triton", make_triton))
    return made


def say(line: str) -> None:
    """One line of progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def bars(log: str) -> str | None:
    """No log where a terminal shows progress bars; elsewhere the log, as lists of packages would bury the rest."""
    return None if sys.stderr.isatty() else log


def run(command: list[str], variables: dict[str, str] | None = None, log: str | None = None) -> None:
    """Run a command that has to succeed.

    Args:
        command: The command and its arguments.
        variables: Environment variables to add.
        log: Name of the log its output goes to; without one it goes to the terminal.
    """
    environment = {**os.environ, **(variables or {})}
    with contextlib.ExitStack() as stack:
        output = None
        if log is not None:
            path = SETUP / "logs" / f"{log}.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            output = stack.enter_context(path.open("ab"))
        ended = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output or sys.stderr, stderr=output or sys.stderr
        )
    if ended.returncode:
        if log is not None:
            say(
                "\n".join(
                    f"         | {line}"
                    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
                )
            )
        raise SetupError(
            f"`{' '.join(command[:4])} …` ended with {ended.returncode}; mend what it says above, then run again"
        )


@contextlib.contextmanager
def heartbeat(label: str) -> Iterator[None]:
    """Say every 15 s that a long part is still at it, for terminals and logs that show no progress bars."""
    ended, began = threading.Event(), time.monotonic()

    def beat() -> None:
        while not ended.wait(15):
            say(f"         still at {label}, {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One set-up of a checkout at a time; the kernel drops the lock when the process dies."""
    SETUP.mkdir(exist_ok=True)
    with (SETUP / "lock").open("w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("setup:   another set-up of this checkout runs; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Make every part that is missing or out of date.

    Returns:
        0, or 2 with one line on stderr where something has to be mended by hand.
    """
    if sys.version_info[:2] != (3, 11):
        say(f"setup: Python 3.11 is needed and this is {sys.version.split()[0]}; run `make setup PYTHON=python3.11`")
        return 2
    began = time.monotonic()
    try:
        with alone():
            every = parts()
            for number, part in enumerate(every, 1):
                if part.is_done() and not (part.name == "system" and missing_system()):
                    continue
                start = time.monotonic()
                say(f"setup {number}/{len(every)}: {part.says} …")
                part.stamp.unlink(missing_ok=True)
                with heartbeat(part.says):
                    part.make()
                part.stamp.parent.mkdir(exist_ok=True)
                part.stamp.write_text(part.digest(), encoding="utf-8")
                say(f"setup {number}/{len(every)}: {part.says}: done in {time.monotonic() - start:.1f} s")
    except SetupError as error:
        say(f"setup: {error}")
        return 2
    except KeyboardInterrupt:
        say("setup: interrupted; run it again and it goes on from here")
        return 130
    say(f"setup: everything is there ({time.monotonic() - began:.2f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
