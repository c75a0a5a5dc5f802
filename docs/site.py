"""What `make docs` builds beside the pages of this folder: a hook of MkDocs (mkdocs.yml).

The README is the site's first page, what stands beside it are pages, too, and every command's help is printed by the program. Links to
other files of the repository lead to it, if pyproject.toml names one; otherwise they are their text.
"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.testing import CliRunner

from beepgpt.commands.app import COMMANDS, app

HERE = Path(__file__).resolve().parents[1]
BESIDE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Pages that stand at the top of the repository, and where they stand on the site."""
BESIDE |= {f"notebooks/{path.name}": f"notebooks/{path.stem}.md" for path in sorted(HERE.glob("notebooks/*.ipynb"))}
SETTINGS = "reference/settings.md"
RECORDS = "reference/records.md"
SCHEMAS = HERE / "docs" / "reference" / "schemas"
LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?:|data:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of this folder."""
    made = {place: page_of(HERE / name) for name, place in BESIDE.items()}
    made[SETTINGS] = (
        f"# Settings\n\nEvery line is a setting and its default.\n\n```toml\n{(HERE / 'config' / 'default.toml').read_text('utf-8')}\n```\n"
    )
    made[RECORDS] = "# Records\n\n" + "\n".join(map(fields_of, sorted(SCHEMAS.glob("*.json"))))
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    return files


def page_of(path: Path) -> str:
    """A page as it stands there; a notebook as Markdown, with what its cells show."""
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts += [source] if cell["cell_type"] == "markdown" else [f"```python\n{source}\n```", *map(shown, cell["outputs"])]
    return "\n\n".join(parts)


def fields_of(path: Path) -> str:
    """A record's fields as a table, of its JSON Schema."""
    schema = json.loads(path.read_text("utf-8"))
    needed = schema.get("required", [])
    rows = [
        f"| `{name}` | {type_of(field)}{'' if name in needed else ', may be missing'} | {field.get('description', '')} |"
        for name, field in schema["properties"].items()
    ]
    link = f"[{path.name}](schemas/{path.name})"
    return "\n".join(
        [
            f"## {schema['title']}\n\n{schema['description']} As a JSON Schema: {link}.\n",
            "| field | type | what it is |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def type_of(field: dict[str, Any]) -> str:
    """The type of a field, in words."""
    kinds = field.get("type", [each.get("type", "") for each in field.get("anyOf", [])])
    return " or ".join(kinds) if isinstance(kinds, list) else kinds


def shown(output: dict[str, Any]) -> str:
    """What a cell shows: a picture, a table (in the site's own style) or text."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![What the cell draws](data:image/png;base64,{''.join(data['image/png'].split())})"
    if "text/html" in data:
        return re.sub(r"<style.*?</style>|\s*\n\s*| (?:border|class|style)=\"[^\"]*\"", "", "".join(data["text/html"]), flags=re.DOTALL)
    return f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where their targets stand on the site, and print the commands' help."""
    place = page.file.src_uri
    source = next((name for name, there in BESIDE.items() if there == place), f"docs/{place}")
    if place == "reference/commands.md":
        markdown += helps()
    markdown = re.sub(r"```mermaid\n(.*?)```", steps, markdown, flags=re.DOTALL)
    return LINK.sub(lambda match: led(match, source, place, files), markdown)


def led(match: re.Match[str], source: str, place: str, files: Files) -> str:
    """A link of a page, as it is on the site. `source`: the page's path in the repository; `place`: on the site."""
    picture, text, target, heading = match[1], match[2], match[3], match[4] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    there = {**BESIDE, "config/default.toml": SETTINGS}.get(path, path.removeprefix("docs/"))
    if files.get_file_from_path(there) is not None:
        return f"{picture}[{text}]({posixpath.relpath(there, posixpath.dirname(place) or '.')}{heading})"
    project = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]
    repository = project.get("urls", {}).get("Repository")
    return f"{picture}[{text}]({repository}/blob/main/{path}{heading})" if repository else text


def steps(diagram: re.Match[str]) -> str:
    """The steps of a flow's diagram, each below the one that it reads from: the script that draws it would come from elsewhere."""
    depth: dict[str, int] = {}
    lines: list[str] = []
    for before, step in re.findall(r"^\w+\.(\w+) -- .* --> \w+\.(\w+)$", diagram[1], re.MULTILINE):
        if not lines:
            lines.append(before)
        depth[step] = depth.setdefault(before, 0) + 1
        at = max(number for number, line in enumerate(lines) if line.strip() == before) + 1
        while at < len(lines) and len(lines[at]) - len(lines[at].lstrip()) > 4 * depth[before]:
            at += 1
        lines.insert(at, 4 * depth[step] * " " + step)
    return "```text\n" + "\n".join(lines) + "\n```"


def helps() -> str:
    """What `beepgpt COMMAND --help` prints, of every command."""
    shown = ["\n"]
    plain = {"TERMINAL_WIDTH": "100", "COLUMNS": "100", "NO_COLOR": "1"}
    for name in (name for group in COMMANDS.values() for name in group):
        printed = CliRunner().invoke(app, [name, "--help"], prog_name="beepgpt", env=plain)
        assert printed.exit_code == 0, printed.output
        shown.append(f"## beepgpt {name}\n\n```text\n{printed.output.strip()}\n```\n")
    return "\n".join(shown)
