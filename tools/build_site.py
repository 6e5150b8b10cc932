"""Builds the course's site, a folder of static pages that ask nobody for anything: `make site`.

Lays out what Sphinx reads in build/site_source: the pages of docs/, the lessons with their committed outputs
(nothing is run), and the avatar player, made from the shipped avatars. Then Sphinx, with docs/conf.py, writes
the site; a warning fails the build."""

from __future__ import annotations

import argparse
import posixpath
import re
import shutil
from pathlib import Path

import nbformat
from course import NOTEBOOKS, read_manifest

ROOT = NOTEBOOKS.parent
DRIVERS, FILM = ("101", "102", "103"), "EMO-1-shout+laugh"
_LINK = re.compile(
    r"```.*?```|`[^`]*`|\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)", re.S
)  # code is left alone
_BAR = re.compile(r"\d+%\|")
_PLOTLY = "application/vnd.plotly.v1+json"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_NOTE = (
    "<p><em>In the running notebook an interactive widget stands here. The avatar player runs "
    '<a href="../player.html">on this site</a> too.</em></p>'
)


def places() -> dict[str, str]:
    """Where the site has a file of the repository: path in the repository -> path in the site's source."""
    pages = {
        f"docs/{path.name}": path.name
        for path in (ROOT / "docs").iterdir()
        if path.suffix in (".md", ".jpg", ".png")
    }
    lessons = {f"notebooks/{path.name}": f"lessons/{path.name}" for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    return (
        pages
        | lessons
        | {
            "THIRD_PARTY_NOTICES.md": "third_party_notices.md",
            "benchmarks/results/study/report.md": "pages/study_report.html",
        }
    )


def site_markdown(text: str, path: str) -> str:
    """Markdown of the repository's file `path`, as the site needs it.

    Links lead to the site's own pages; pictures from the network become their text; a link to what the site
    does not have leads to the repository, or is plain text while that has no address.
    """
    known, repository = places(), read_manifest()["repository"]
    here = posixpath.dirname(known[path])

    def link(found: re.Match) -> str:
        words, target = found["text"], found["target"]
        if target is None or re.match(r"[a-z]+:|#", target):
            return found[0]
        name, _, anchor = target.partition("#")
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        if wanted not in known:
            return f"[{words}]({repository}/blob/main/{wanted})" if repository else words
        there = known[wanted]
        if there.startswith("pages/"):
            return f'<a href="{posixpath.relpath(there.removeprefix("pages/"), here or ".")}">{words}</a>'
        return f"[{words}]({posixpath.relpath(there, here or '.')}{'#' * bool(anchor)}{anchor})"

    return _LINK.sub(link, re.sub(r"!\[([^\]]*)\]\(https?://[^)]*\)", r"\1", text))


def site_notebook(name: str) -> nbformat.NotebookNode:
    """A lesson with its committed outputs, for the site: widgets, which need a kernel, become a sentence."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = site_markdown(cell.source, f"notebooks/{name}.ipynb")
        else:
            cell.source = cell.source.removeprefix("# NBVAL_CHECK_OUTPUT\n")  # which only the tests read
            cell.outputs = [
                site_output(output)
                for output in cell.outputs
                if not (_WIDGET in output.get("data", {}) and _BAR.search(output.data.get("text/plain", "")))
            ]
    how = (
        "*You see what this lesson gave in one full run. To work through it, {download}`take the notebook "
        f"<../notebooks/{name}.ipynb>` and open it in JupyterLab; its exercises are still open there.*"
    )
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(how, id="how-to-run"))
    return notebook


def site_output(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """One output in a form that needs no kernel and no network: of a plotly figure the figure, of another
    widget a sentence."""
    data = output.get("data", {})
    if _PLOTLY in data:
        from plotly.io import to_html

        output.data = {
            "text/html": to_html(
                data[_PLOTLY], include_plotlyjs="../_static/plotly.min.js", full_html=False, validate=False
            )
        }
    elif _WIDGET in data and "text/html" not in data:
        output.data = {"text/html": _NOTE}
    return output


def lay_out(source: Path) -> None:
    """Write all that Sphinx reads into the folder `source`."""
    shutil.rmtree(source, ignore_errors=True)
    for folder in ("lessons", "notebooks", "pages", "_static"):
        (source / folder).mkdir(parents=True)
    for path, place in places().items():
        if path.endswith(".ipynb"):
            nbformat.write(site_notebook(Path(path).stem), source / place)
            shutil.copy(ROOT / path, source / "notebooks")
        elif place.startswith("pages/"):
            shutil.copy((ROOT / path).with_suffix(".html"), source / place)
        elif path.endswith(".md"):
            (source / place).write_text(
                site_markdown((ROOT / path).read_text(encoding="utf-8"), path), encoding="utf-8", newline="\n"
            )
        else:
            shutil.copy(ROOT / path, source / place)
    for path in ("docs/conf.py", "LICENSE", "CITATION.cff", "notebooks/manifest.toml"):
        shutil.copy(ROOT / path, source / ("notebooks" if path.startswith("notebooks") else ""))
    shutil.copytree(ROOT / "docs" / "_static", source / "_static", dirs_exist_ok=True)
    if any("plotly.min.js" in page.read_text(encoding="utf-8") for page in (source / "lessons").iterdir()):
        from plotly.offline import get_plotlyjs

        (source / "_static" / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8", newline="\n")
    write_avatars(source / "pages" / "avatars.html")


def write_avatars(path: Path) -> None:
    """The player with both shipped avatars, and what they are driven by: the person's own hold-out sequence
    and three drivers."""
    from raf_lite import Session
    from raf_lite.captures import open_capture
    from raf_lite.course import AVATARS, SUBJECT, trained_avatar
    from raf_lite.export import write_player

    shipped = Session("cpu", fast=True)  # never one that was trained here
    avatars = {name: trained_avatar(name, shipped) for name in AVATARS}
    people = {
        person: open_capture(ROOT / "data" / "mini_nersemble" / person) for person in (SUBJECT, *DRIVERS)
    }
    who = {person: "the person's own" if person == SUBJECT else f"driver {person}" for person in people}
    films = {
        f"{who[person]}, {FILM}": capture.descriptors(FILM, "blendshapes")
        for person, capture in people.items()
    }
    write_player(
        avatars,
        path,
        sequences=films,
        fps=people[SUBJECT].fps,
        title="Two avatars of one person, without and with retrieval",
    )


def main() -> int:
    """Lay out, then build; the exit status is Sphinx's."""
    from sphinx.cmd.build import build_main

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "site", help="the site's folder (default: build/site)"
    )
    out = parser.parse_args().out
    source = out.with_name(out.name + "_source")
    lay_out(source)
    shutil.rmtree(out, ignore_errors=True)
    status = build_main(
        ["-b", "html", "-W", "--keep-going", "-q", "-d", str(out) + "_doctrees", str(source), str(out)]
    )
    if status == 0:
        print(f"the site is {out / 'index.html'}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
