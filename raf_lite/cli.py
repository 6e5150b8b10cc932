"""The command `raf-lite`: thin doors to the package, for machines without a notebook."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from raf_lite._install import check_installation


def _data_rig(args: argparse.Namespace) -> int:
    from raf_lite.rig.pack import download_rig

    print(f"the rig's pack is {download_rig()}")
    return 0


def _data_build(args: argparse.Namespace) -> int:
    from raf_lite.rig.build import build_data

    build_data(args.out, jobs=args.jobs)
    return _data_checkpoints(args)


def _data_checkpoints(args: argparse.Namespace) -> int:
    from raf_lite._files import cache_dir
    from raf_lite.course import build_checkpoints

    build_checkpoints(args.out, cache_dir("checkpoints"))
    return 0


def _data_fetch(args: argparse.Namespace) -> int:
    from raf_lite.data_release import fetch_data

    print(f"the data are {fetch_data()}")
    return 0


def _data_verify(args: argparse.Namespace) -> int:
    from raf_lite.manifest import broken, find_data, how_to_mend, verify_manifest

    folder = args.data or find_data()
    problems = verify_manifest(folder)
    for problem in problems:
        print(problem)
    mend = how_to_mend(folder) if broken(problems) else "remove what is not listed"
    print(f"{folder}: {f'{len(problems)} problem(s); {mend}' if problems else 'as built'}")
    return 1 if problems else 0


def _demo(args: argparse.Namespace) -> int:
    from raf_lite.demo import run

    run(args.out)
    return 0


def _check(args: argparse.Namespace) -> int:
    """Print what a capture holds and what is wrong with it, and write its contact sheet."""
    from raf_lite._install import needs

    with needs("captures"):
        import pandas as pd

    from raf_lite.captures import detect_format, open_capture
    from raf_lite.captures.check import check_capture, contact_sheet

    capture = open_capture(args.path, format=args.format)
    found = check_capture(capture)
    print(f"{args.path}: {args.format or detect_format(args.path)}, {len(capture.cameras)} camera(s), {capture.fps:g} frames a "
          f"second, head poses from {capture.head_pose_source or 'nobody'}")
    table = pd.DataFrame(found.rows, columns=["sequence", "frames", "cameras", "with masks", "codes", "split", "head poses"])
    if found.reprojection:
        share = [f"{100 * found.reprojection[s]:.0f} %" if s in found.reprojection else "" for s in table["sequence"]]
        table["landmarks on mask"] = share
    print(table.to_string(index=False))
    for problem in found.problems:
        print(f"problem: {problem}")
    print(f"contact sheet: {contact_sheet(capture, args.sheet)}")
    return 1 if found.problems else 0


def _encode(args: argparse.Namespace) -> int:
    from raf_lite.descriptors.encode_video import encode_video, report

    print(report(encode_video(args.video, args.out, face=args.face, smooth=args.smooth), args.video))
    return 0


def _bank_add(args: argparse.Namespace) -> int:
    """Encode a video, unless it is, and add its frames to a bank."""
    from raf_lite.bank import add_donor, encode_thumbnail
    from raf_lite.bank.storage import read_manifest
    from raf_lite.descriptors import LandmarkPCA
    from raf_lite.descriptors.encode_video import face_crops

    encoding = _encoded(args.video)
    found = encoding.face_found
    names = list(read_manifest(args.bank)["descriptors"]) if (args.bank / "bank.json").exists() else ["blendshapes"]
    columns = {}
    for name in names:
        if name == "blendshapes":
            columns[name] = encoding.blendshapes[found]
        elif name == "landmarks_pca":
            columns[name] = LandmarkPCA.load(args.bank / "landmark_pca.npz").encode_landmarks(encoding.landmarks[found])
        else:
            raise ValueError(f"the bank {args.bank} has a column '{name}', which a video does not give; use another bank")
    thumbnails = {row: encode_thumbnail(face, quality=72) for row, face in face_crops(args.video, encoding).items()}
    donor, added, dropped = add_donor(args.bank, columns, encoder=encoding.encoder, donor=args.donor, out=args.out,
                                      poses=encoding.encoder_pose[found], thumbnails=thumbnails)
    print(f"donor {donor}: {added} frames added to {args.out or args.bank}, {dropped} dropped that repeat others, "
          f"{len(encoding.missing)} without a face")
    return 0


def _encoded(video: Path):
    """The encoding beside a video, made now where there is none."""
    from raf_lite.captures.formats.plain import encoding_file
    from raf_lite.descriptors.encode_video import VideoEncoding, encode_video, report

    if encoding_file(video).is_file():
        return VideoEncoding.load(encoding_file(video))
    encoding = encode_video(video)
    print(report(encoding, video))
    return encoding


def _train(args: argparse.Namespace) -> int:
    """Train one avatar; a run that was stopped goes on."""
    from raf_lite.bank import ExpressionBank
    from raf_lite.captures import open_capture
    from raf_lite.manifest import find_data
    from raf_lite.training import PRESETS, Trainer, TrainingSet

    changes = {"descriptor": args.descriptor, "retrieval": args.retrieval, "retrieval_p": args.p, "seed": args.seed}
    config = PRESETS[args.preset].with_(**changes)
    bank = ExpressionBank.load(args.bank or find_data() / "bank", descriptor=args.descriptor) if args.retrieval else None
    data = TrainingSet.from_capture(open_capture(args.capture, format=args.format), config)
    Trainer(data, config, args.out, bank=bank).train(resume=True)
    print(f"the avatar is {args.out / 'avatar.safetensors'}")
    return 0


def _drive(args: argparse.Namespace) -> int:
    from raf_lite.avatar import GaussianAvatar
    from raf_lite.viewing import drive_video

    print(drive_video(GaussianAvatar.load(args.avatar), args.video, _encoded(args.video), args.out, size=args.size,
                      relative=args.relative, hold_head=args.hold_head))
    return 0


def _export(args: argparse.Namespace) -> int:
    """Write an avatar in the forms that were asked for."""
    from raf_lite import export
    from raf_lite.avatar import GaussianAvatar, driving_descriptors, resting_descriptor

    avatars = {path.parent.name if path.stem == "avatar" else path.stem: GaussianAvatar.load(path) for path in args.avatar}
    avatar = next(iter(avatars.values()))
    if len(avatars) > 1 and (args.ply or args.glb or args.basis or args.sequence):
        raise ValueError("only --player takes several avatars; export the others one by one")
    values = None if args.video is None else driving_descriptors(avatar, _encoded(args.video).blendshapes, args.relative)
    if values is not None and not 0 <= args.frame < len(values):
        raise ValueError(f"{args.video} has frames 0 to {len(values) - 1}, and no frame {args.frame}")
    still = resting_descriptor(avatar) if values is None else values[args.frame]
    if args.ply:
        print(export.write_ply(avatar, still, args.ply))
    if args.glb:
        print(export.write_glb(avatar, still, args.glb))
    if args.basis:
        print(*export.write_basis(avatar, args.basis), sep="\n")
    if args.sequence:
        if values is None:
            raise ValueError("a sequence needs a driver; name one with --video")
        print(export.write_sequence(avatar, values, args.sequence))
    if args.player:
        print(export.write_player(avatars, args.player, sequences={} if values is None else {args.video.stem: values}))
    return 0


def _submit(args: argparse.Namespace) -> int:
    from raf_lite.avatar import GaussianAvatar
    from raf_lite.captures import open_capture
    from raf_lite.captures.submission import check_submission
    from raf_lite.evaluation.submission import submit_avatars

    if len(args.pairs) % 2:
        raise ValueError("give an avatar and its capture for each person, one after the other")
    people = [(GaussianAvatar.load(a), open_capture(c)) for a, c in zip(args.pairs[::2], args.pairs[1::2], strict=True)]
    print(submit_avatars(args.out, people))
    for problem in check_submission(args.out):
        print(f"not complete yet: {problem}")
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
    from raf_lite.doctor import doctor

    return 0 if doctor() else 1


def mean_or_frame(text: str) -> str | int:
    """"mean", or the number of a frame."""
    return text if text == "mean" else int(text)


def parser() -> argparse.ArgumentParser:
    """The command line, whose help is its documentation."""
    top = argparse.ArgumentParser(prog="raf-lite", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="command")

    data = commands.add_parser("data", help="the rig and the shipped data").add_subparsers(required=True, metavar="what")
    data.add_parser("fetch", help="download the shipped data (33 MB, once) where raf_lite was installed without its repository"
                    ).set_defaults(run=_data_fetch)
    data.add_parser("rig", help="download and pack the ICT-FaceKit rig (about 400 MB, once)").set_defaults(run=_data_rig)
    build = data.add_parser("build", help="render and encode everything under data/; goes on where it was stopped")
    build.add_argument("--out", type=Path, default=Path("data"), help="folder to build (default: data)")
    build.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    build.set_defaults(run=_data_build)
    checkpoints = data.add_parser("checkpoints", help="train the two avatars that ship with the lessons; the last part of build")
    checkpoints.add_argument("--out", type=Path, default=Path("data"), help="folder with the capture and bank (default: data)")
    checkpoints.set_defaults(run=_data_checkpoints)
    verify = data.add_parser("verify", help="compare a data folder with its manifest")
    verify.add_argument("data", type=Path, nargs="?", help="(default: the folder that the lessons use)")
    verify.set_defaults(run=_data_verify)

    demo = commands.add_parser("demo", help="train three avatars from the shipped capture, grade and film them")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="where the report goes (default: out/demo)")
    demo.set_defaults(run=_demo)

    check = commands.add_parser("check", help="what a capture holds, whether its cameras can be right, and a contact sheet")
    check.add_argument("path", type=Path, help="a capture's folder, a folder of images, or a video")
    check.add_argument("--sheet", type=Path, default=Path("out/check.png"), help="contact sheet (default: out/check.png)")
    check.set_defaults(run=_check)

    encode = commands.add_parser("encode", help="a video into blendshapes, landmarks and head poses; resumes")
    encode.add_argument("video", type=Path)
    encode.add_argument("--out", type=Path, help="npz to write (default: VIDEO's name with .encoding.npz, where others look)")
    encode.add_argument("--face", type=int, help="which of several people to follow, 1 being the one seen longest (default: 1)")
    encode.add_argument("--smooth", type=float, default=0.0, metavar="SECONDS",
                        help="Gaussian average over time of this standard deviation (default: none)")
    encode.set_defaults(run=_encode)

    bank = commands.add_parser("bank", help="grow an expression bank").add_subparsers(required=True, metavar="what")
    add = bank.add_parser("add", help="add the frames of a video of one more person")
    add.add_argument("video", type=Path)
    add.add_argument("--bank", type=Path, required=True, help="the bank's folder; begun there if there is none")
    add.add_argument("--out", type=Path, help="folder of the grown bank (default: the same)")
    add.add_argument("--donor", help="the person's id (default: the next number)")
    add.set_defaults(run=_bank_add)

    train = commands.add_parser("train", help="train an avatar on a capture, with or without retrieval; resumes")
    train.add_argument("capture", type=Path, help="a capture's folder")
    train.add_argument("--out", type=Path, required=True, help="folder of the avatar")
    train.add_argument("--preset", choices=("fast", "cpu", "gpu"), default="cpu")
    train.add_argument("--descriptor", default="blendshapes", help="stored descriptor that drives it (default: blendshapes)")
    train.add_argument("--retrieval", help="a setting of raf_lite.retrieval, such as paper-k16 or centred (default: none)")
    train.add_argument("--p", type=float, default=0.2, help="probability that a descriptor is replaced (default: 0.2)")
    train.add_argument("--bank", type=Path, help="bank to retrieve from (default: the shipped one)")
    train.add_argument("--seed", type=int, default=0)
    train.set_defaults(run=_train)
    for command in (check, train):
        command.add_argument("--format", help="the capture's format (default: detected)")

    drive = commands.add_parser("drive", help="film an avatar driven by a video, beside it")
    drive.add_argument("avatar", type=Path, help="avatar.safetensors")
    drive.add_argument("video", type=Path, help="the driver; encoded first, unless it is")
    drive.add_argument("--out", type=Path, default=Path("out/driven.mp4"), help="(default: out/driven.mp4)")
    drive.add_argument("--size", type=int, default=384, help="pixels a side of each panel (default: 384)")
    drive.add_argument("--hold-head", action="store_true", help="the avatar looks straight ahead")
    drive.set_defaults(run=_drive)

    export = commands.add_parser("export", help="an avatar as files that other programs open, or as one page that plays it")
    export.add_argument("avatar", type=Path, nargs="+", help="avatar.safetensors; several for --player")
    export.add_argument("--ply", type=Path, help="one expression as 3DGS PLY")
    export.add_argument("--glb", type=Path, help="one expression as glTF with KHR_gaussian_splatting")
    export.add_argument("--basis", type=Path, metavar="STEM", help="the learned basis: STEM.safetensors and STEM.json")
    export.add_argument("--sequence", type=Path, metavar="FOLDER", help="a PLY for each frame of the video")
    export.add_argument("--player", type=Path, metavar="HTML", help="a page that works without a server or a network")
    export.add_argument("--video", type=Path, help="whose expressions (default: the avatar's neutral one)")
    export.add_argument("--frame", type=int, default=0, help="of the video, for --ply and --glb (default: 0)")
    for command in (drive, export):
        command.add_argument("--relative", metavar="mean|FRAME", type=mean_or_frame,
                             help="take out the driver's mean, or the neutral frame of this number, and put the avatar's own in")
    export.set_defaults(run=_export)

    submit = commands.add_parser("submit", help="the NeRSemble benchmark's zip for its monocular task")
    submit.add_argument("pairs", type=Path, nargs="+", metavar="AVATAR CAPTURE", help="for each person")
    submit.add_argument("--out", type=Path, default=Path("out/submission.zip"), help="(default: out/submission.zip)")
    submit.set_defaults(run=_submit)

    study = commands.add_parser("study", help="when does retrieval help: runs, resumable, and their report; needs the rig and "
                                              "MediaPipe").add_subparsers(required=True, metavar="what", dest="what")
    run = study.add_parser("run", help="do the runs of a plan that are not done yet")
    run.add_argument("plan", help="selection, confirmation, seeds, rates, bounds, bank, coverage, descriptors, tolerance, "
                                  "relative or label_free")
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

    commands.add_parser("doctor", help="whether the course runs here, and a mend for what is amiss").set_defaults(run=_doctor)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command; an error of ours is one line on stderr and exit status 2."""
    args = parser().parse_args(argv)
    try:
        if args.run is not _doctor:  # which says more of it
            check_installation()
        return args.run(args)
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"raf-lite: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
