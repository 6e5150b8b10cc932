"""The command `raf-lite`: thin doors to the package, for machines without a notebook."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import sys
from pathlib import Path


def _data_rig(args: argparse.Namespace) -> int:
    from raf_lite.rig.pack import download_rig

    print(f"the rig's pack is {download_rig()}")
    return 0


def _data_build(args: argparse.Namespace) -> int:
    from raf_lite.rig.build import build_data

    build_data(args.out, jobs=args.jobs)
    return 0


def _data_verify(args: argparse.Namespace) -> int:
    from raf_lite.manifest import verify_manifest

    problems = verify_manifest(args.data)
    for problem in problems:
        print(problem)
    print(f"{args.data}: {'as built' if not problems else f'{len(problems)} problem(s); run raf-lite data build'}")
    return 1 if problems else 0


def _demo(args: argparse.Namespace) -> int:
    from raf_lite.demo import run

    run(args.out)
    return 0


def _study(args: argparse.Namespace) -> int:
    """`raf-lite study run|select|retrieval|status|report`."""
    from raf_lite.study import execute, selecting

    if args.what == "run":
        left = execute.execute(args.plan, args.folder, args.jobs, args.most)
        print(f"{args.plan}: {left} runs left" if left else f"{args.plan}: all runs are done; see raf-lite study report")
    elif args.what == "select":
        choice = selecting.choose(args.folder)
        for descriptor in ("blendshapes", "landmarks-neutral"):
            print(f"{descriptor}: {choice[descriptor]['variant']}, p = {choice[descriptor]['p']}")
    elif args.what == "retrieval":
        execute.grade_retrieval(args.folder, args.jobs)
    elif args.what == "status":
        for name, (done, total) in execute.status(args.folder).items():
            print(f"{name:<13} {done:>4} of {total} runs")
    else:
        from raf_lite.study.report import write_study_report

        print(*write_study_report(args.folder, args.out), sep="\n")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    """Print what is here and what is missing, each with its mend."""
    import torch

    from raf_lite.manifest import find_data, verify_manifest
    from raf_lite.rig.pack import find_pack

    print(f"Python      {platform.python_version()} on {platform.platform()}")
    for name in ("raf_lite", "torch", "numpy", "numba", "faiss-cpu", "mediapipe", "gsplat"):
        try:
            print(f"{name:<11} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{name:<11} not installed")
    cuda = torch.cuda.is_available()
    print(f"device      {torch.cuda.get_device_name() if cuda else 'CPU'}, {torch.get_num_threads()} threads")
    if cuda and importlib.util.find_spec("gsplat") is None:
        print("            for speed on this GPU: pip install raf_lite[gpu]")
    print(f"rig         {find_pack() or 'not here; only needed to render new data: raf-lite data rig'}")
    healthy = True
    try:
        from raf_lite.descriptors import MediaPipeEncoder

        MediaPipeEncoder().close()
        print("encoder     MediaPipe Face Landmarker works")
    except (ImportError, FileNotFoundError, ValueError) as error:
        print(f"encoder     {error}")
    try:
        problems = verify_manifest(find_data())
        healthy = not problems
        print(f"data        {find_data()}: {'as built' if not problems else '; '.join(problems[:3])}")
    except FileNotFoundError as error:
        healthy = False
        print(f"data        {error}")
    return 0 if healthy else 1


def parser() -> argparse.ArgumentParser:
    """The command line, whose help is its documentation."""
    top = argparse.ArgumentParser(prog="raf-lite", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="command")

    data = commands.add_parser("data", help="the rig and the shipped data").add_subparsers(required=True, metavar="what")
    data.add_parser("rig", help="download and pack the ICT-FaceKit rig (about 400 MB, once)").set_defaults(run=_data_rig)
    build = data.add_parser("build", help="render and encode everything under data/; goes on where it was stopped")
    build.add_argument("--out", type=Path, default=Path("data"), help="folder to build (default: data)")
    build.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    build.set_defaults(run=_data_build)
    verify = data.add_parser("verify", help="compare data/ with its manifest")
    verify.add_argument("data", type=Path, nargs="?", default=Path("data"))
    verify.set_defaults(run=_data_verify)

    demo = commands.add_parser("demo", help="train three avatars from the shipped capture, grade and film them")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="where the report goes (default: out/demo)")
    demo.set_defaults(run=_demo)

    study = commands.add_parser("study", help="when does retrieval help: runs, resumable, and their report; needs the rig and "
                                              "MediaPipe").add_subparsers(required=True, metavar="what", dest="what")
    run = study.add_parser("run", help="do the runs of a plan that are not done yet")
    run.add_argument("plan", help="selection, confirmation, seeds, rates, bounds, bank, coverage, descriptors or tolerance")
    run.add_argument("--most", type=int, help="stop after so many runs")
    select = study.add_parser("select", help="choose the best variant from the selection runs, once, before confirmation")
    graded = study.add_parser("retrieval", help="grade neighbours against the truth, and what leaks from each descriptor")
    for command in (run, graded):
        command.add_argument("--jobs", type=int, default=2, help="processes, one core each (default: 2)")
    report = study.add_parser("report", help="report.html and report.md from the lines alone")
    report.add_argument("--out", type=Path, help="folder of the report (default: that of the lines)")
    for command in (run, select, graded, study.add_parser("status", help="how many runs of each plan are done"), report):
        command.add_argument("--folder", type=Path, default=Path("benchmarks/results/study"),
                             help="folder of the lines (default: benchmarks/results/study)")
        command.set_defaults(run=_study)

    commands.add_parser("doctor", help="what is installed here, and what is missing").set_defaults(run=_doctor)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command; an error of ours is one line on stderr and exit status 2."""
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"raf-lite: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
