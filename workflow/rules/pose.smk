# HRNet runs here, once for each image, and nowhere else.
from pgfl.pose.origin import check_links, is_external, stamp
from pgfl.pose.settings import EXTERNAL
from pgfl.config.sources import WEIGHTS

WEIGHTS_FOLDER = "cache/weights"

# By what stands behind `heatmaps` in a folder's name: nothing for the experiment's own pose.
READINGS = {f"@{name}" if name else "": pose for name, pose in settings.pose_readings.items()}


def heatmaps_file(dataset, split, reading=""):
    return f"cache/{EXPERIMENT}/heatmaps{reading}/{dataset}/{split}.h5"


HEATMAP_FILES = {
    heatmaps_file(dataset, split, reading): reading
    for reading in READINGS
    for dataset in settings.test_sets
    for split in ("train", "query", "gallery")
}
or_exit(check_links, HEATMAP_FILES)
# Files of other estimators. No rule makes them, so that Snakemake never deletes one: neither before
# a job nor after a failed one, nor for --forceall or --delete-all-output. What reads one checks it.
OWN_HEATMAPS = {
    file
    for file, reading in HEATMAP_FILES.items()
    if is_external(Path(file))
    or READINGS[reading].estimator == EXTERNAL
    and os.path.exists(file)
}
# What only the user can bring, and has not brought yet.
MISSING_HEATMAPS = {
    file
    for file, reading in HEATMAP_FILES.items()
    if READINGS[reading].estimator == EXTERNAL and not os.path.exists(file)
}


def reading_of(variant):
    """What stands behind `heatmaps` in the folder of a variant's maps."""
    name = settings.recipe(variant).training.pose
    return f"@{name}" if name else ""


def own_stamps(files):
    """Another value where heatmaps of the user's own among these files have other content.

    A parameter must not be made of `input`: Snakemake compares no such parameter with the last
    run's. Empty without any, so that maps of ours, which are compared as a whole, change nothing.
    """
    return [stamp(Path(file)) for file in files if file in OWN_HEATMAPS]


# For each training set whose images are as drawn, the archive that brings the true joints. A set
# without an archive alters the images that it is made from.
JOINTS_OF = {
    dataset: SOURCES[images].name
    for dataset, images in {name: DATASETS[name].images_of or name for name in SOURCES}.items()
    if TRAIN_SET[dataset] == dataset and settings.is_synthetic(images)
}


def own_weights(wildcards):
    """The user's copy of a weights file, where one can be seen from here."""
    candidate = os.path.join(settings.archives.folder, WEIGHTS[wildcards.network].name)
    return [candidate] if os.path.isfile(candidate) else []


rule get_weights:
    input:
        own_weights,
    output:
        f"{WEIGHTS_FOLDER}/{{network}}.pth",
    wildcard_constraints:
        network=any_of(WEIGHTS),
    params:
        folder=settings.archives.folder,
        url=lambda w: option("url", settings.archives.urls.get(WEIGHTS[w.network].name)),
        size=lambda w: sizes(own_weights(w)),
    log:
        f"logs/{WEIGHTS_FOLDER}/{{network}}.log",
    conda:
        ENVIRONMENT
    priority: 100
    localrule: True  # a node of a cluster may have no network
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Getting the weights of {wildcards.network}"
    shell:
        "python -m pgfl weights get {wildcards.network} --out {output:q}"
        " --folder {params.folder:q} {params.url} 2>&1 | tee {log:q}"


def pose_weights(pose):
    if pose.checkpoint:
        return pose.checkpoint
    if pose.estimator == "hrnet_small":
        return os.path.relpath(SMALL_WEIGHTS)
    return f"{WEIGHTS_FOLDER}/{pose.estimator}.pth"


def none_of(files):
    """A pattern that stands before `{reading}/{dataset}/{split}.h5` and excludes these files."""
    if not files:
        return ""
    start = len(f"cache/{EXPERIMENT}/heatmaps")
    return f"(?!(?:{any_of(file[start:] for file in files)})$)"


def as_pose(pose):
    return as_json(pose.model_dump(mode="json"))


rule heatmaps:
    input:
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
        weights=lambda w: pose_weights(READINGS[w.reading]),
    output:
        # No update(...): a failed job would leave the old maps there as if they were the new ones.
        f"cache/{EXPERIMENT}/heatmaps{{reading}}/{{dataset}}/{{split}}.h5",
    wildcard_constraints:
        reading=none_of(OWN_HEATMAPS | MISSING_HEATMAPS)
        + f"(?:{'|'.join(map(re.escape, READINGS))})",
    params:
        settings=lambda w: as_pose(READINGS[w.reading]),
        # Finished blocks outlive a failed job, which declared outputs do not.
        state=lambda w: f"cache/{EXPERIMENT}/state/heatmaps{w.reading}/{w.dataset}/{w.split}",
        photographs=lambda w: "--photographs" if settings.has_photographs(w.dataset) else "",
        code=lambda w: code_hash(
            "pgfl.pose.stage", *architecture_code(READINGS[w.reading].estimator)
        ),
    log:
        f"logs/cache/{EXPERIMENT}/heatmaps{{reading}}/{{dataset}}/{{split}}.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.pose_threads)
    resources:
        gpu=1,
        mem_mb=settings.resources.memory,
    message:
        "Heatmaps of {wildcards.dataset}, {wildcards.split} ({input.weights})"
    shell:
        "python -m pgfl heatmaps make {input.manifest:q} --split {wildcards.split}"
        " --weights {input.weights:q} --out {output:q} --settings {params.settings:q}"
        " --state {params.state:q} --threads {threads} {params.photographs} 2>&1 | tee {log:q}"


rule missing_heatmaps:
    # Stands for what the user has to bring, so that all of it is said at the start, together.
    input:
        manifest=lambda w: f"data/{EXPERIMENT}/{w.file.split('/')[-2]}/manifest.csv",
    output:
        "{file}",
    wildcard_constraints:
        file=any_of(MISSING_HEATMAPS),
    log:
        "logs/{file}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Looking for {wildcards.file}"
    shell:
        "python -m pgfl heatmaps check {output:q} --manifest {input.manifest:q}"
        " 2>&1 | tee {log:q}"


def missing_heatmaps(job):
    """One line about heatmaps that no job can make."""
    file = job.output[0]
    _, dataset = os.path.split(os.path.dirname(file))
    fit = f"for the rows of data/{EXPERIMENT}/{dataset}/manifest.csv (docs/heatmaps.md)"
    return f"pose.estimator: external: put your heatmaps at {file}, {fit}."


def warnings_of_pose():
    """What the pose stage warned of, once at the end: it stands far above in the output."""
    jobs = workflow.dag.needrun_jobs(exclude_finished=False) if workflow.dag else []
    logs = sorted(str(job.log[0]) for job in jobs if job.rule.name == "heatmaps")
    lines = [
        line
        for log in filter(os.path.isfile, logs)
        for line in Path(log).read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("warning: ")
    ]
    more = [f"and {len(lines) - 10} more warnings"] if len(lines) > 10 else []
    return [*lines[:10], *more]


rule true_heatmaps:
    # A control for the study: what a pose estimator that never errs would say of drawn people.
    input:
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
        joints=lambda w: f"{ARCHIVES}/{JOINTS_OF[w.dataset]}.joints.npz",
    output:
        f"cache/{EXPERIMENT}/true_heatmaps/{{dataset}}/{{split}}.h5",
    wildcard_constraints:
        dataset=any_of(JOINTS_OF),
    params:
        settings=section("pose"),
        code=code_hash("pgfl.pose.true_joints"),
    log:
        f"logs/cache/{EXPERIMENT}/true_heatmaps/{{dataset}}/{{split}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Perfect heatmaps of {wildcards.dataset}, {wildcards.split}, from true joints"
    shell:
        "python -m pgfl heatmaps from-joints {input.manifest:q} --split {wildcards.split}"
        " --joints {input.joints:q} --out {output:q} --settings {params.settings:q}"
        " 2>&1 | tee {log:q}"
