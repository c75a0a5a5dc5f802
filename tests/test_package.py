"""What is installed: one package with one name, quick to import, whole in the wheel, and clear where it can't be whole."""

import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import pytest

from beepgpt import __version__
from beepgpt.commands.app import COMMANDS, MODULES

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("beepgpt", "config", "connectors", "dataflows", "pyproject.toml", "setup.py", "README.md", "LICENSE")
"""What a wheel is built from."""
LINKED = ("config", "connectors", "dataflows")
SHORT_NAMES = [*LINKED, "config.settings", "connectors.kafka", "connectors.files.jsonl", "dataflows.examples"]


def python(*arguments: object, cwd: Path, interpreter: Path | str = sys.executable, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run Python to its end, without settings of ours from the environment."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("BEEPGPT_", "PYTHON"))}
    command = [str(interpreter), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=plain | env, capture_output=True, text=True, timeout=600, check=False)


def done(ran: "subprocess.CompletedProcess[str]") -> str:
    """The standard output of a run that went well."""
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def loaded(*arguments: str) -> set[str]:
    """The modules that a run of Python imports."""
    ran = python("-X", "importtime", *arguments, cwd=ROOT)
    done(ran)
    return {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}


# Quick


def test_the_package_is_imported_at_once():
    """In less than 150 ms of processor time, without a command line, an engine or a broker's client."""
    code = "import time; start = time.process_time(); import beepgpt; print(time.process_time() - start)"
    modules = {name.partition(".")[0] for name in loaded("-c", "import beepgpt")}

    assert float(done(python("-c", code, cwd=ROOT))) < 0.15
    assert "beepgpt" in modules and modules.isdisjoint({"typer", "bytewax", "kafka"})


def test_the_bare_help_imports_no_command():
    """It knows their names and a line of each: under 0.3 s of processor time, the best of three."""
    modules = loaded("-m", "beepgpt", "--help")

    assert {name for name in modules if name.startswith("beepgpt")} == {
        *("beepgpt", "beepgpt.commands", "beepgpt.commands.app", "beepgpt.commands.starting"),
        *("beepgpt.errors", "beepgpt.folders", "beepgpt.packages"),
    }
    assert {name.partition(".")[0] for name in modules}.isdisjoint({"bytewax", "kafka", "orjson", "pydantic", "pydantic_settings", "rich"})
    assert min(seconds_of_help() for _ in range(3)) < 0.3


def seconds_of_help() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done(python("-m", "beepgpt", "--help", cwd=ROOT))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(("name", "line"), [each for group in COMMANDS.values() for each in group.items()])
def test_the_help_lists_commands_as_they_describe_themselves(name: str, line: str):
    """A line of `beepgpt --help` is the beginning of the command's own help."""
    function = MODULES.get(name, name.replace("-", "_"))
    command = getattr(import_module(f"beepgpt.commands.{function}"), function)

    assert re.match(rf"{re.escape(line)}(?!\w)", command.__doc__)


def test_the_version_says_what_a_report_should_name():
    """Version, build, Python and Bytewax; `-h` is help everywhere."""
    version = done(python("-m", "beepgpt", "--version", cwd=ROOT))

    assert re.fullmatch(rf"beepgpt {re.escape(__version__)} \((plain|compiled)\), Python 3\.\d+\.\d+, Bytewax 0\.21\.1\n", version)
    assert done(python("-m", "beepgpt", "-h", cwd=ROOT)) == done(python("-m", "beepgpt", "--help", cwd=ROOT))
    assert "--recovery" in done(python("-m", "beepgpt", "examples", "-h", cwd=ROOT))


# One name


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_a_room_has_one_name(name: str):
    """From the repository's root `connectors` can be found, and would be a second module: it refuses, and names the right one."""
    ran = python("-c", f"import {name}", cwd=ROOT)

    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == f"ImportError: import beepgpt.{name.partition('.')[0]}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a wheel is built from, links and all."""
    return checkout_in(tmp_path / "checkout")


def checkout_in(folder: Path) -> Path:
    for name in SOURCES:
        if (source := ROOT / name).is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(source, folder / name)
    return folder


def test_a_checkout_without_links_says_so(checkout: Path):
    """As unpacked on Windows, where a link becomes a small file: one line, and no wheel that lacks half of it."""
    for name in LINKED:
        link = checkout / "beepgpt" / name
        target = os.readlink(link)
        link.unlink()
        link.write_text(target)

    ran = python("-m", "beepgpt", "examples", "in.jsonl", "--to", "o.jsonl", cwd=checkout)
    built = python("setup.py", "--quiet", "--version", cwd=checkout)

    assert (ran.returncode, ran.stdout) == (1, "")
    assert re.fullmatch(r"beepgpt: beepgpt/\w+ is no folder: this checkout has no symbolic links; clone it with git, .*\n", ran.stderr)
    assert built.returncode == 1
    assert built.stderr == "beepgpt/config is no folder: this checkout has no symbolic links; clone it with git\n"


# The wheel


def built(kind: str, source: Path) -> Path:
    """A wheel or an sdist of a source, built without a network."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}('dist'))"
    return source / "dist" / done(python("-W", "ignore", "-c", code, cwd=source)).split()[-1]


def files_of(wheel: Path) -> dict[str, bytes]:
    """A wheel's files but for the list of them, which holds their sizes and hashes."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", checkout_in(tmp_path_factory.mktemp("wheel") / "checkout"))


@pytest.mark.slow
def test_the_wheel_and_the_sdist_hold_one_package(wheel: Path, checkout: Path, tmp_path: Path):
    """One top-level name, every file of ours, and the same wheel from the sdist, where links became folders."""
    shutil.unpack_archive(built("sdist", checkout), tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    files = files_of(wheel)
    folders = [ROOT / "beepgpt", *(ROOT / "beepgpt" / name for name in LINKED)]  # rglob follows no link
    ours = {str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*")}

    assert {name.partition("/")[0] for name in files} == {"beepgpt", f"beepgpt-{__version__}.dist-info"}
    assert {name for name in files if name.startswith("beepgpt/")} == {
        name for name in ours if (ROOT / name).is_file() and "__pycache__" not in name and not name.endswith(".so")
    }
    assert {path.name for path in unpacked.iterdir() if path.is_dir()} == {"beepgpt", "beepgpt.egg-info"}
    assert files_of(built("wheel", unpacked)) == files


@pytest.mark.slow
def test_the_readme_leads_nowhere_from_a_package_index(wheel: Path):
    """No file stands beside it there: what links to one is the text alone, or leads to the repository."""
    metadata = files_of(wheel)[f"beepgpt-{__version__}.dist-info/METADATA"].decode()

    assert "# BeepGPT" in metadata and "The laws in full, each with" in metadata
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", metadata) == []


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A fresh environment's Python. What we need is found by PYTHONPATH, see `needs`."""
    done(python("-m", "venv", "--without-pip", tmp_path / "environment", cwd=tmp_path))
    return tmp_path / "environment" / "bin" / "python"


def needs() -> str:
    """Where the packages stand that we use; an editable install of ours is no package there."""
    return os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))


def pip(interpreter: Path, *arguments: object) -> None:
    """Install or uninstall in an environment, without a network."""
    done(python("-m", "pip", "--quiet", "--disable-pip-version-check", "--python", interpreter, *arguments, cwd=interpreter.parent))


def other_config(folder: Path) -> Path:
    """A wheel of somebody else's package that is called `config`, as there is one on PyPI."""
    info = "config-0.5.1.dist-info"
    files = {
        "config/__init__.py": b"WHOSE = 'theirs'\n",
        "config/settings.py": b"",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: config\nVersion: 0.5.1\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    hashes = {name: urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode() for name, content in files.items()}
    record = "".join(f"{name},sha256={hashes[name]},{len(content)}\n" for name, content in files.items()) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / "config-0.5.1-py3-none-any.whl", "w") as archive:
        for name, content in (files | {f"{info}/RECORD": record.encode()}).items():
            archive.writestr(name, content)
    return folder / "config-0.5.1-py3-none-any.whl"


@pytest.mark.slow
def test_it_lives_beside_another_package_called_config(wheel: Path, environment: Path, tmp_path: Path):
    """Both are whole, before and after ours is uninstalled."""
    whose = ("-c", "import config; print(config.WHOSE, config.__file__)")
    ours = ("-c", "import beepgpt.config; print(beepgpt.config.__file__)")
    pip(environment, "install", "--no-index", "--no-deps", other_config(tmp_path))
    pip(environment, "install", "--no-index", "--no-deps", wheel)

    theirs = done(python(*whose, cwd=tmp_path, interpreter=environment))
    assert theirs.startswith(f"theirs {tmp_path}")
    assert done(python(*ours, cwd=tmp_path, interpreter=environment)).startswith(f"{tmp_path}/environment/")

    pip(environment, "uninstall", "--yes", "beepgpt")
    assert done(python(*whose, cwd=tmp_path, interpreter=environment)) == theirs
    assert python(*ours, cwd=tmp_path, interpreter=environment).returncode == 1
    (site_packages,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    assert sorted(path.name for path in site_packages.iterdir()) == ["config", "config-0.5.1.dist-info"]
    assert sorted(path.name for path in (site_packages / "config").glob("*.py")) == ["__init__.py", "settings.py"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_runs_from_the_wheel_alone(wheel: Path, environment: Path, tmp_path: Path):
    """Outside the repository, with a `config.py` of somebody else in the folder; and so does the program's own name."""
    pip(environment, "install", "--no-index", "--no-deps", wheel)
    (tmp_path / "config.py").write_text("raise SystemExit('not ours')\n")

    version = done(python(environment.with_name("beepgpt"), "--version", cwd=tmp_path, interpreter=environment, PYTHONPATH=needs()))
    ran = python("-m", "beepgpt", "demo", cwd=tmp_path, interpreter=environment, PYTHONPATH=needs())
    done(ran)
    assert version.startswith(f"beepgpt {__version__} ")
    assert "the same, byte for byte" in ran.stdout and (tmp_path / "beepgpt-demo" / "index.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_its_types_are_seen(wheel: Path, environment: Path, tmp_path: Path):
    """By mypy in a project that uses the wheel: what fits passes, what doesn't is found."""
    pip(environment, "install", "--no-index", "--no-deps", wheel)
    for name, kind in (("good", "int"), ("bad", "str")):
        code = f"from beepgpt.errors import BadCommand\n\nstatus: {kind} = BadCommand('x').exit_status\n"
        (tmp_path / f"{name}.py").write_text(code)

    def mypy(script: str) -> "subprocess.CompletedProcess[str]":
        return python("-m", "mypy", "--strict", "--cache-dir", "cache", "--python-executable", environment, script, cwd=tmp_path)

    done(mypy("good.py"))
    assert "bad.py:3: error: Incompatible types in assignment" in mypy("bad.py").stdout
