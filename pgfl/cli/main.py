"""One command a stage. The workflow's rules call these, and so can a person."""

import errno
import io
import os
import sys
import warnings

import typer

from pgfl.cli import (
    configuration,
    data,
    planning,
    pose,
    reporting,
    retrieval,
    student,
    training,
)
from pgfl.errors import UserError, fail
from pgfl.runtime.allocator import keep_freed_memory
from pgfl.runtime.orphans import end_with_snakemake

app = typer.Typer(
    help="Pose-guided feature learning with knowledge distillation for occluded person ReID.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data.archive_app, name="archive")
app.add_typer(data.weights_app, name="weights")
app.add_typer(data.app)
app.add_typer(pose.app, name="heatmaps")
app.add_typer(training.app)
app.add_typer(retrieval.app)
app.add_typer(reporting.app)
app.add_typer(planning.app)
app.add_typer(student.app)
app.add_typer(configuration.app, name="config")

DISK_TROUBLE = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "your quota is used up; free some space, then run the same command again",
    errno.EFBIG: "the file system takes no larger file here; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "make it readable and writable, or choose another folder",
    errno.EPERM: "writing is not allowed there; choose another folder",
    errno.EEXIST: "a file lies where a folder is needed; choose another place",
    errno.ENOTDIR: "a part of this path is a file, not a folder; choose another",
    errno.EISDIR: "name a file instead",
    errno.ENOENT: "look at the path's spelling, and whether all of its folders are there",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its symbolic links lead back to themselves; choose another path",
    errno.ENOTEMPTY: "another program writes there; wait for it, or choose another folder",
}
"""What the user can do about errors of the operating system; all others are ours."""

WORKFLOW, POSE = "pip install '.[workflow]'", "pip install '.[pose]'"
MMPOSE = f"{POSE}, then pip install --no-deps -r envs/requirements-mmpose.txt"
PACKAGES = {
    **dict.fromkeys(("h5py", "lightning", "lightning_fabric", "matplotlib"), WORKFLOW),
    **dict.fromkeys(("pandas", "scipy", "snakemake", "yaml"), WORKFLOW),
    **dict.fromkeys(("addict", "json_tricks", "munkres", "termcolor", "yapf"), POSE),
    **dict.fromkeys(("mmcv", "mmengine", "mmpose", "xtcocotools"), MMPOSE),
}
"""Modules that a plain installation lacks, since a student needs none of them, and what brings
them (in the folder of the repository)."""


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and status 1."""
    # A console that cannot show a name shows its code: most consoles' encodings lack most letters.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Pillow's remarks on damaged metadata are nothing that a reader of a log can act on.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    end_with_snakemake()
    keep_freed_memory()
    try:
        app()
    except UserError as error:
        fail(error)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module == "cv2":
            fail(UserError(str(error)))
        if module not in PACKAGES:
            raise
        needed = f"this command needs {module}: {PACKAGES[module]} in the repository's folder"
        fail(UserError(needed))
    except UnicodeEncodeError as error:
        fail(
            UserError(
                f"{error.object!a}: this system's encoding, {error.encoding}, has no such "
                "name; set PYTHONUTF8=1 in the environment, then run the same command again"
            )
        )
    except BrokenPipeError:
        # A reader that closes the pipe early (head, less) is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        fail(UserError(f"{where}{error.strerror}; {DISK_TROUBLE[error.errno]}"))
