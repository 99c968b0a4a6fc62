import subprocess

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors are slower on several threads, the more so when other processes run."""
    torch.set_num_threads(1)


@pytest.fixture
def small_disk(tmp_path_factory):
    """Makes disks that run full: `small_disk("300k")` mounts one and gives its folder.

    `small_disk("9m", folder)` mounts it at a folder, or changes the size of the one that is there.
    """
    mounted = []

    def make(size, folder=None):
        folder = folder or tmp_path_factory.mktemp("disk")
        options = f"{'remount,' if folder in mounted else ''}size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            result = subprocess.run(command, capture_output=True)
        except FileNotFoundError:
            pytest.skip("there is no mount command for a small disk here")
        if result.returncode:
            pytest.skip("a small disk cannot be mounted here: that needs root")
        mounted.append(folder)
        return folder

    yield make
    for folder in set(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
