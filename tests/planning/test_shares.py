import pytest

from pgfl.planning.shares import threads_beside


@pytest.mark.parametrize(
    ("threads", "gpus", "cores", "all_gpus", "expected"),
    [
        (4, 1, 16, 0, 4),  # no GPU: as wanted
        (4, 1, None, 2, 4),  # a cluster's business
        (4, 1, 16, 4, 4),
        (8, 1, 16, 4, 4),  # a quarter of the cores
        (8, 2, 16, 4, 8),
        (4, 1, 2, 8, 1),  # never none
    ],
)
def test_no_job_takes_more_than_its_gpus_part_of_the_cores(
    threads, gpus, cores, all_gpus, expected
):
    assert threads_beside(threads, gpus, cores=cores, all_gpus=all_gpus) == expected
