"""The rooms keep their rules, imports run one way, and what the pages say to type exists."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import typer.main

from beepgpt import packages
from beepgpt.commands.app import MODULES, app
from beepgpt.commands.loading import loaded

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "beepgpt"
UNREPEATABLE = {"asyncio", "multiprocessing", "numpy", "os", "random", "secrets", "socket", "subprocess"}
UNREPEATABLE |= {"tempfile", "threading", "time", "uuid"}
"""What gives another answer at another time, on another machine, or in another order."""


ROOMS: dict[str, set[str]] = {
    "conversations": set(),
    "audit": {"conversations"},
    "training": {"conversations"},
    "labeling": {"conversations", "training"},
    "alerts": {"conversations", "training"},
    "simulation": {"conversations"},
    "connectors": {"conversations"},
    "config": {"conversations"},
    "runtime": {"conversations", "config", "connectors"},
    "ingest": {"conversations", "config", "connectors", "runtime"},
    "forgetting": {"conversations", "training", "alerts", "connectors", "config", "runtime"},
    "dataflows": {"conversations", "labeling", "training", "alerts"},
    "web": {"conversations", "labeling", "training", "alerts"},
    "library": {
        *("conversations", "audit", "training", "simulation", "connectors", "config", "runtime", "dataflows"),
    },
    "up": {"conversations", "training", "alerts", "connectors", "config", "runtime"},
    "commands": {
        *("conversations", "audit", "training", "labeling", "alerts", "simulation", "connectors", "config", "runtime", "ingest"),
        *("dataflows", "web", "forgetting", "library", "up"),
    },
}
"""Each room with the rooms that it may import; `web` takes values from them."""
IN_A_FLOW = {"config", "connectors", "runtime"}
"""What the functions of dataflows/ that wire flows may import besides."""
WIRING = {"flow", "follow_channels"}
"""Those functions: `flow()` of a file, and the operator for flows of others."""
FOR_ALL = {"clock", "errors", "figures", "folders", "lenient_json", "locks", "packages", "__version__"}
"""What stands in the package itself; every room may import it."""
VALUES = "beepgpt.connectors.openai.values"
"""Values of a connector without its client: requests of `labeling` are made of them."""
EXCEPTIONS = {"labeling": [f"beepgpt.labeling.** -> {VALUES}"], "conversations": ["beepgpt.conversations.columns -> numpy"]}
"""Imports that a room's contract allows besides."""
FOREIGN: dict[str, tuple[str, ...]] = {
    "bytewax": ("dataflows/", "connectors/", "runtime/"),
    "typer": ("commands/",),
    "rich": ("commands/", "runtime/"),
    "kafka": ("connectors/kafka/",),
    "openai": ("connectors/openai/",),
    "slack_sdk": ("connectors/slack/",),
}
"""Libraries, and where they may be imported."""


def modules(folder: str) -> list[Path]:
    """The files of a room, or of all rooms for the name ""; links are followed."""
    return sorted(path for room in ([folder] if folder else ROOMS) for path in (PACKAGE / room).resolve().rglob("*.py"))


def place(path: Path) -> str:
    """A file as the rooms name it: `connectors/files/jsonl.py`."""
    return str(path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """The full name of everything imported anywhere in the tree; relative ones stay at home."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(tree: ast.AST) -> set[str]:
    """The top-level name of every module imported anywhere in the tree."""
    return {name.partition(".")[0] for name in imports(tree)}


def rooms_imported(tree: ast.AST) -> set[str]:
    """The rooms and modules of the package that a tree imports."""
    return {name.split(".")[1] for name in imports(tree) if name.startswith("beepgpt.") and not name.startswith(f"{VALUES}.")}


def called(tree: ast.AST) -> Iterator[str]:
    """The last name of everything called: `now` for `datetime.now()`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id


@cache
def project() -> dict[str, Any]:
    tools: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    return tools


def test_conversations_are_the_same_at_any_time_and_place():
    """No clock, chance, environment, thread or NumPy; and no `hash()`, which differs by process."""
    for path in modules("conversations"):
        tree = parsed(path)

        assert not imported(tree) & (UNREPEATABLE - {"numpy"} if path.name == "columns.py" else UNREPEATABLE), path.name
        assert not set(called(tree)) & {"now", "utcnow", "today", "hash", "id"}, path.name


@pytest.mark.parametrize(
    "code",
    ["import time", "from os import environ", "import os.path", "def f():\n    import random", "datetime.now()", "hash(1)"],
)
def test_the_check_would_notice(code: str):
    """What the two tests above look for is found wherever it stands."""
    tree = ast.parse(code)

    assert imported(tree) & UNREPEATABLE or set(called(tree)) & {"now", "hash"}


def test_the_rooms_are_those_of_the_table():
    """A folder in the package is a room, and its `__init__` opens with the room's rule."""
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)
    for room in ROOMS:
        rule = (ast.get_docstring(parsed(PACKAGE / room / "__init__.py")) or "").partition("\n\n")[0]
        assert rule.endswith(".") and len(rule.split()) > 4, room


def test_rooms_import_what_they_may():
    """Downwards only."""
    found = {
        (room, other)
        for room, allowed in ROOMS.items()
        for path in modules(room)
        for other in rooms_imported(outside_flow(parsed(path)) if room == "dataflows" else parsed(path)) - allowed - FOR_ALL - {room}
    }

    assert found == set()


def outside_flow(tree: ast.Module) -> ast.Module:
    """A file of dataflows/ without the functions that wire flows."""
    wiring = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name in WIRING]
    for function in wiring:
        assert rooms_imported(function) <= ROOMS["dataflows"] | IN_A_FLOW | FOR_ALL
    return ast.Module([each for each in tree.body if each not in wiring], [])


def test_import_linter_knows_the_rooms():
    """Its contracts, which look at every import wherever it stands, are those of the table."""
    contracts = {each["source_modules"][0]: each for each in project()["importlinter"]["contracts"]}

    assert set(contracts) == {f"beepgpt.{room}" for room in ROOMS} - {"beepgpt.commands"}
    for room, allowed in ROOMS.items():
        if room != "commands":
            may = allowed | {room} | (IN_A_FLOW if room == "dataflows" else set())
            forbidden = {
                name.partition(".")[2] for name in contracts[f"beepgpt.{room}"]["forbidden_modules"] if name.startswith("beepgpt.")
            }
            assert forbidden == set(ROOMS) - may, room
            assert contracts[f"beepgpt.{room}"].get("ignore_imports", []) == EXCEPTIONS.get(room, []), room


def test_foreign_libraries_stay_in_their_rooms():
    """An engine, a broker, a provider and Slack are imported in one place each."""
    found = {
        (place(path).partition("/")[0], library)
        for path in modules("")
        for library in imported(parsed(path)) & set(FOREIGN)
        if not place(path).startswith(FOREIGN[library])
    }

    assert found == set()


def test_flows_are_built_in_dataflows():
    """`Dataflow(` stands nowhere else."""
    builders = {place(path) for path in modules("") if "Dataflow" in called(parsed(path))}

    assert {path for path in builders if not path.startswith("dataflows/")} == set()


def test_connections_to_elsewhere_are_made_in_one_place():
    """`connectors/http.py` decides where they go; what makes clients besides it takes its connections from there."""
    makers = {"urlopen", "build_opener", "create_connection", "HTTPConnection", "HTTPSConnection", "WebClient", "WebhookClient"}
    makers |= {"ClientSession", "AsyncClient", "AsyncOpenAI", "OpenAI", "DefaultAioHttpClient", "TCPConnector"}
    found = {place(path) for path in modules("") if makers & set(called(parsed(path)))}
    libraries = {place(path) for path in modules("") if {"aiohttp", "httpx2", "requests", "urllib3", "websockets"} & imported(parsed(path))}

    assert found == {"connectors/http.py", "connectors/openai/caller.py", "connectors/openai/transport.py"}
    assert libraries == {
        *("connectors/openai/caller.py", "connectors/openai/answers.py", "connectors/openai/transport.py"),
        *("connectors/slack/live/sockets.py", "simulation/slack/server.py"),  # the latter only listens, on this machine
    }


def test_each_extra_s_modules_are_those_that_it_brings():
    """A message about a missing module names the right extra, and no other."""
    of = packages_distributions()
    brought = {extra: {of[module][0].lower().replace("_", "-") for module in modules} for extra, modules in packages.MODULES.items()}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    ours = {extra: wanted for extra, wanted in extras.items() if not wanted[0].startswith("beepgpt[")}
    assert brought == {extra: {re.split(r"[\[<>=]", each)[0] for each in wanted} for extra, wanted in ours.items()}
    others = {"labeling": ["beepgpt[label]"], "training": ["beepgpt[train]"]}  # as they were called before
    assert extras == ours | others | {"all": [f"beepgpt[{','.join(sorted(ours))}]"]}


def test_no_file_is_long():
    """500 lines at most."""
    assert {place(path) for path in modules("") if len(path.read_text("utf-8").splitlines()) > 500} == set()


def test_commands_are_wiring():
    """A file has at most 200 lines, and no class but its job."""
    found = set()
    for path in modules("commands"):
        classes = [each.name for each in ast.walk(parsed(path)) if isinstance(each, ast.ClassDef) and not each.name.endswith("Job")]
        if len(path.read_text("utf-8").splitlines()) > 200 or classes not in ([], ["Commands"]):
            found.add(place(path))

    assert found == set()


def test_shares_are_written_in_one_way():
    """What people read has its per cent from beepgpt/figures.py, on pages and on terminals; no format of Python's writes one."""
    found = {place(path) for room in ("commands", "web") for path in modules(room) if re.search(r":,?\.\d%[}\"]", path.read_text("utf-8"))}

    assert found == set()


def test_commands_make_folders_that_go_again():
    """One that is empty at the end is removed: so none is made but by beepgpt/folders.py."""
    found = {place(path) for room in ("commands", "labeling") for path in modules(room) if "mkdir" in set(called(parsed(path)))}

    assert found == set()


def public_names(tree: ast.Module) -> Iterator[str]:
    """Classes and aliases of types that a module defines for others."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp() | ast.Name() | ast.Attribute()):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias")):
                yield name


def test_public_names_are_unique():
    """A class or an alias of a type has a name of its own, so that a search for it leads to one place.

    What Python users call is named for them, whatever other rooms call theirs: an `Example`, a `Model`.
    """
    places: dict[str, list[str]] = {}
    inner = (path for path in modules("") if path.parent.name != "library")
    for path in [*inner, *(PACKAGE / f"{name}.py" for name in ("clock", "errors", "figures", "folders", "lenient_json", "locks"))]:
        for name in public_names(parsed(path)):
            if re.fullmatch(r"[A-Z][a-z]\w*", name):
                places.setdefault(name, []).append(place(path))

    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_locks_name_no_registry():
    """Hashes tell what is installed; any mirror may bring it."""
    for lock in ROOT.glob("requirements*.lock"):
        assert not re.search(r"https?:|--(extra-)?index-url|--find-links", lock.read_text("utf-8")), lock.name


def typed_in(page: Path) -> list[str]:
    """Lines of a page's code blocks that are to be typed into a shell, continued lines joined."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    fences = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    typed = [block for language, block in fences if language in ("", "sh", "shell", "bash", "console")]
    return [re.sub(r"\s#.*", "", line).strip().removeprefix("$ ") for block in typed for line in block.splitlines()]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_the_pages_name_make_targets_that_exist():
    """Every `make x` works."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {target for page in PAGES for line in typed_in(page) for target in re.findall(r"(?:^|&& )make ([a-z-]+)", line)}

    assert {"demo", "test"} <= named <= targets


def test_the_pages_name_commands_and_flags_that_exist():
    """Every `beepgpt x --y` is known to the command line."""
    named: dict[str, set[str]] = {}
    for line in (line for page in PAGES for line in typed_in(page)):
        for command, rest in re.findall(r"(?:^|[|&] ?|/)beepgpt ([a-z-]+)([^|&]*)", line):
            named.setdefault(command, set()).update(re.findall(r"(?<=\s)--[a-z-]+", rest))

    unknown = {command: flags - flags_of(command) for command, flags in named.items()}
    assert len(named) > 10
    assert {command: flags for command, flags in unknown.items() if flags} == {}


def flags_of(command: str) -> set[str]:
    """The flags that a command takes."""
    assert command in typer.main.get_command(app).commands, f"beepgpt {command} is no command"  # type: ignore[attr-defined]
    found = loaded(command, MODULES.get(command))
    return {flag for each in found.params for flag in (*each.opts, *each.secondary_opts)} | {"--help"}


@pytest.mark.xdist_group("one process")
def test_a_group_of_tests_runs_in_one_process(request: pytest.FixtureRequest):
    """pytest-xdist knows a group by an ending of the test's name; where that is lost, each process starts a broker of its own."""
    assert request.node.nodeid.endswith("@one process") is request.config.getoption("loadgroup", default=False)
