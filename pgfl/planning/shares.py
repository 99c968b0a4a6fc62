"""How many of a machine's cores a job takes beside others."""


def threads_beside(threads: int, gpus: int = 1, *, cores: int | None, all_gpus: int) -> int:
    """Threads of a job that wants so many for each of its GPUs.

    At most its part of the cores, so that no GPU lies idle.

    Args:
        threads: wanted for one GPU.
        gpus: of the job.
        cores: of the machine; None where a cluster runs the jobs.
        all_gpus: of the machine; 0 where it has none, or where a cluster runs the jobs.
    """
    if not all_gpus or not cores:
        return threads * gpus
    return max(1, min(threads * gpus, cores * gpus // all_gpus))
