# HRNet runs here, once for each image, and nowhere else.
from pgfl.sources import WEIGHTS

WEIGHTS_FOLDER = "cache/weights"
ARCHITECTURE = architecture_code(settings.pose.estimator)


# For each training set whose images are as drawn, the set whose archive brings the true joints.
JOINTS_OF = {
    dataset: SOURCES[images].name
    for dataset, images in {
        "market1501": "market1501",
        "dukemtmc_reid": "dukemtmc_reid",
        "occluded_duke": "dukemtmc_reid",
    }.items()
    if settings.is_synthetic(images)
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


def pose_weights(wildcards):
    if settings.pose.checkpoint:
        return settings.pose.checkpoint
    if settings.pose.estimator == "hrnet_small":
        return os.path.relpath(SMALL_WEIGHTS)
    return f"{WEIGHTS_FOLDER}/{settings.pose.estimator}.pth"


rule heatmaps:
    input:
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
        weights=pose_weights,
    output:
        f"cache/{EXPERIMENT}/heatmaps/{{dataset}}/{{split}}.h5",
    params:
        settings=section("pose"),
        # Finished blocks outlive a failed job, which declared outputs do not.
        state=lambda w: f"cache/{EXPERIMENT}/state/heatmaps/{w.dataset}/{w.split}",
        code=code_hash("pgfl.pose.stage", *ARCHITECTURE),
    log:
        f"logs/cache/{EXPERIMENT}/heatmaps/{{dataset}}/{{split}}.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.pose_threads)
    resources:
        gpu=1,
        mem_mb=settings.resources.memory,
    message:
        "Heatmaps of {wildcards.dataset}, {wildcards.split} ({settings.pose.estimator})"
    shell:
        "python -m pgfl heatmaps make {input.manifest:q} --split {wildcards.split}"
        " --weights {input.weights:q} --out {output:q} --settings {params.settings:q}"
        " --state {params.state:q} --threads {threads} 2>&1 | tee {log:q}"


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
