"""The course's notebooks, made from one source each: `python tools/course.py [--execute] [NAME ...]`.

`notebooks/sources/NAME.py` (jupytext's percent format) gives `notebooks/NAME.ipynb`, which learners get, and
`notebooks/solutions/NAME.ipynb`, in which the exercises are done. In the source:

- In a code cell tagged "exercise", lines from `# SOLUTION` to `# END` are the solution; learners get `raise
  NotImplementedError`.
- In a text cell, `{{solution}}` is the solution of the exercise before it; `{{minutes_cpu}}` and other fields
  come from `notebooks/manifest.toml`, as do the badges of `{{badges}}`.
- Once the manifest says where the repository is published, badges point there, the first cell of a lesson
  that was opened in Colab fetches what is missing, and `raf-lite data fetch` knows the archive of
  tools/release_data.py there. So after a change of that one line, run this without --execute: it rewrites all
  three.

Outputs of a notebook stay while its code cells stay; the lines for Colab do not count. --execute runs the
learner's version, in full mode unless RAF_FAST is set; the solutions are kept without outputs and run by the
tests.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import re
import tomllib
from pathlib import Path

import jupytext
import nbformat

from raf_lite._files import write_json

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
# Ends each line that `build` puts in front of the first cell.
_COLAB = "  # Colab only"
_BLOCK = re.compile(r"^(?P<indent>[ ]*)# SOLUTION\n(?P<body>.*?)^[ ]*# END(?:\n|$)", re.M | re.S)


def read_manifest() -> dict:
    """`notebooks/manifest.toml`."""
    return tomllib.loads((NOTEBOOKS / "manifest.toml").read_text(encoding="utf-8"))


def sources() -> list[str]:
    """Names of all lessons, in reading order."""
    return sorted(path.stem for path in (NOTEBOOKS / "sources").glob("*.py"))


def check_repository(repository: str) -> None:
    """ValueError for an address that neither badges nor `git clone` in a lesson could use; empty is none
    yet."""
    if repository and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", repository):
        raise ValueError(
            f"notebooks/manifest.toml: repository is '{repository}'; write https://github.com/OWNER/NAME"
        )


def badges(name: str, repository: str) -> str:
    """Links that open the lesson elsewhere, or a sentence where the repository has no address yet; and what a
    wrong kernel says, since no code of ours runs in it."""
    wrong_kernel = (
        "*Should the first cell say `No module named ...`: this notebook runs in another Python than the one"
        " of `make setup`. Close it, and open it with `.venv/bin/jupyter lab notebooks`.*"
    )
    if not repository:
        return f"*Badges that open this lesson in Colab follow when the repository is public.* {wrong_kernel}"
    path = repository.removeprefix("https://github.com/")
    return (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{path}/blob/main/notebooks/{name}.ipynb) {wrong_kernel}"
    )


def colab_lines(repository: str) -> str:
    """What the first cell begins with: in Colab, where raf_lite is missing, fetch the repository and what
    raf_lite needs.

    The clone stays, since data/ is not a part of the package; its name is not the package's, or an unfinished
    clone would pass for one. pip leaves alone what is there and new enough; the extra `lessons` has no
    JupyterLab, which Colab has no use for, and gsplat comes where there is a GPU. What pip installs so is
    found by the next kernel, hence the path for this one. "" while the repository has no address.
    """
    if not repository:
        return ""
    return (
        f"import importlib.util, shutil, sys{_COLAB}\n"
        f'if "google.colab" in sys.modules and not importlib.util.find_spec("raf_lite"):'
        f' get_ipython().system("git clone -q '
        f"--depth 1 {repository} raf_lite_course; pip install -q -e 'raf_lite_course[lessons,encode\" + "
        f'",gpu" * bool(shutil.which("nvidia-smi")) + "]\'"); sys.path.append("raf_lite_course"){_COLAB}\n'
    )


def archive_name(sha256: str) -> str:
    """The name of the data's archive of that sha256."""
    return f"raf_lite_data-{sha256[:12]}.tar"


def record_path() -> Path:
    """The record of the data's archive, a part of the package."""
    return NOTEBOOKS.parent / "raf_lite" / "data_release.json"


def write_data_url() -> str:
    """Write into the archive's record where it is published, and return that; "" while the repository has no
    address."""
    repository, record = read_manifest()["repository"], json.loads(record_path().read_text(encoding="utf-8"))
    check_repository(repository)
    release = f"{repository}/releases/download/data-{record['sha256'][:12]}"
    url = f"{release}/{archive_name(record['sha256'])}" if repository else ""
    write_json(record_path(), record | {"url": url})
    return url


def build(name: str, solved: bool) -> nbformat.NotebookNode:
    """One version of a lesson, without outputs. ValueError for a placeholder without meaning, or an exercise
    without solution."""
    manifest = read_manifest()
    if name not in manifest["lessons"]:
        raise ValueError(f"notebooks/manifest.toml has no lesson '{name}'; add it")
    fields = {key: str(value) for key, value in manifest["lessons"][name].items()}
    check_repository(manifest["repository"])
    fields["badges"] = badges(name, manifest["repository"])
    source = NOTEBOOKS / "sources" / f"{name}.py"
    notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    solution = None
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        if cell.cell_type == "code":
            if "exercise" in cell.metadata.get("tags", []):
                found = _BLOCK.search(cell.source)
                if not found:
                    raise ValueError(
                        f"{source.name}: the exercise in cell {number} has no # SOLUTION ... # END"
                    )
                solution = _BLOCK.sub(lambda m: m["body"], cell.source)
                cell.source = (
                    solution
                    if solved
                    else _BLOCK.sub(
                        lambda m: f'{m["indent"]}raise NotImplementedError("your lines go here")\n',
                        cell.source,
                    )
                )
                cell.source = cell.source.strip()
        else:
            fill = functools.partial(_value, fields=fields, solution=solution, where=source.name)
            cell.source = re.sub(r"\{\{(\w+)\}\}", lambda m, fill=fill: fill(m[1]), cell.source)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = colab_lines(manifest["repository"]) + first.source
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _value(name: str, fields: dict[str, str], solution: str | None, where: str) -> str:
    if name == "solution":
        if solution is None:
            raise ValueError(f"{where}: {{{{solution}}}} stands before any exercise")
        return f"```python\n{solution.strip()}\n```"
    if name not in fields:
        raise ValueError(f"{where}: {{{{{name}}}}} is no field of the lesson in notebooks/manifest.toml")
    return fields[name]


def target(name: str, solved: bool) -> Path:
    """Where a version is kept."""
    return NOTEBOOKS / ("solutions" if solved else "") / f"{name}.ipynb"


def _code(notebook: nbformat.NotebookNode) -> list[str]:
    """Sources of the code cells, without what `colab_lines` adds."""
    return [
        "\n".join(line for line in cell.source.splitlines() if not line.endswith(_COLAB))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def with_outputs(built: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    """The outputs of the file that is there, if its code cells are the same."""
    if path.is_file():
        old = nbformat.read(path, 4)
        if _code(old) == _code(built):
            before = (cell for cell in old.cells if cell.cell_type == "code")
            for cell in built.cells:
                if cell.cell_type == "code":
                    kept = next(before)
                    cell.outputs, cell.execution_count = copy.deepcopy(kept.outputs), kept.execution_count
    return built


def execute(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run all cells in order, in the folder of the notebooks; a cell that raises ends the run."""
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook, timeout=1200, coalesce_streams=True, resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    client.execute()
    notebook.metadata.pop("widgets", None)  # megabytes
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
    return notebook


def main() -> None:
    """Write both versions of the lessons, and where the data are published."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="lessons (default: all)")
    parser.add_argument("--execute", action="store_true", help="run the learner's version")
    args = parser.parse_args()
    for name in args.names or sources():
        for solved in (False, True):
            notebook, path = build(name, solved), target(name, solved)
            if not solved:
                notebook = execute(notebook) if args.execute else with_outputs(notebook, path)
            path.parent.mkdir(exist_ok=True)
            path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
            print(path.relative_to(NOTEBOOKS.parent).as_posix())
    write_data_url()


if __name__ == "__main__":
    main()
