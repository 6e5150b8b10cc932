"""The project's own files agree with each other."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

import raf_lite


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project, {
        line for extra in ([], *project["optional-dependencies"].values()) for line in extra
    } | set(project["dependencies"])


def test_environment_yml_and_setup_install_every_extra_but_gpu():
    project, _ = requirements()
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    assert f"  - python{project['requires-python']}" in lines
    for text in (lines[-1], (ROOT / "tools" / "setup.sh").read_text(encoding="utf-8")):
        (asked,) = re.findall(r"-e '?\.\[([\w,]+)\]", text)
        assert reached(project, asked.split(",")) == project["optional-dependencies"].keys() - {"gpu"}


def reached(project, extras):
    """Extras, and those that they ask for in turn."""
    found, wanted = set(), list(extras)
    while wanted:
        extra = wanted.pop()
        found.add(extra)
        for line in map(Requirement, project["optional-dependencies"][extra]):
            wanted += line.extras if line.name == "raf_lite" else ()
    return found


def test_setup_and_matrix_leave_out_the_same_dependencies():
    """What comes without its dependencies is the same in both."""
    setup, matrix = (
        (ROOT / "tools" / name).read_text(encoding="utf-8") for name in ("setup.sh", "matrix.py")
    )
    listed = re.search(r"--no-deps ([\w.= ]+)", setup)[1].split()
    assert listed == re.findall(
        r'"([\w]+==[\d.]+)"', re.search(r"WITHOUT_DEPENDENCIES = \((.*?)\)", matrix)[1]
    )


def test_version_is_one():
    project, _ = requirements()
    assert project["version"] == raf_lite.__version__
    assert f"version: {raf_lite.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_every_import_of_the_package_is_declared():
    declared = {Requirement(r).name.lower().replace("-", "_") for r in requirements()[1]} | {"gsplat"}
    modules = {"pil": "pillow", "faiss": "faiss_cpu", "flip_evaluator": "flip_evaluator", "dlib": "dlib_bin"}
    imported = set()
    for path in (ROOT / "raf_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            imported.update(name.split(".")[0].lower() for name in names)
    foreign = {
        modules.get(n, n)
        for n in imported
        if n not in sys.stdlib_module_names and n not in ("raf_lite", "__future__")
    }
    assert foreign <= declared, f"not declared: {sorted(foreign - declared)}"


@pytest.mark.parametrize(
    "absent, rooms",
    [
        (
            (
                "av",
                "pandas",
                "torchmetrics",
                "flip_evaluator",
                "plotly",
                "ipywidgets",
                "anywidget",
                "IPython",
                "openTSNE",
                "psutil",
                "mediapipe",
                "gsplat",
                "cv2",
                "matplotlib",
            ),
            "captures descriptors bank retrieval splatting avatar training export viewing course.doctor cli",
        ),
        (
            ("flip_evaluator", "openTSNE", "mediapipe", "gsplat", "cv2"),
            "evaluation widgets course.avatars course.demo study.grading",
        ),
    ],
)
def test_what_can_be_imported_without_its_extras(absent, rooms):
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); " + "; ".join(
        f"import raf_lite.{room}" for room in rooms.split()
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_ci_runs_make_test_and_readme_names_both_commands():
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in steps and "tools/matrix.py --must 3.13-newest" in steps
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme and "make test" in readme
