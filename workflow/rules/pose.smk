# HRNet runs here, once for each image, and nowhere else.


rule get_weights:
    input:
        lambda w: OWN.weights(w.network),
    output:
        f"{WEIGHTS_FOLDER}/{{network}}.pth",
    wildcard_constraints:
        network=any_of(WEIGHTS),
    params:
        folder=settings.archives.folder,
        url=lambda w: option("url", settings.archives.urls.get(WEIGHTS[w.network].name)),
        size=lambda w: sizes(OWN.weights(w.network)),
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


rule heatmaps:
    input:
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
        weights=lambda w: pose_weights(HEATMAPS.readings[w.reading]),
    output:
        # No update(...): a failed job would leave the old maps there as if they were the new ones.
        f"cache/{EXPERIMENT}/heatmaps{{reading}}/{{dataset}}/{{split}}.h5",
    wildcard_constraints:
        reading=HEATMAPS.made_here,
    params:
        settings=lambda w: as_json(HEATMAPS.readings[w.reading]),
        # Finished blocks outlive a failed job, which declared outputs do not.
        state=lambda w: f"cache/{EXPERIMENT}/state/heatmaps{w.reading}/{w.dataset}/{w.split}",
        photographs=lambda w: "--photographs" if settings.has_photographs(w.dataset) else "",
        code=lambda w: code_hash(
            "pgfl.pose.stage", *architecture_code(HEATMAPS.readings[w.reading].estimator)
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
        file=any_of(HEATMAPS.missing),
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


def warnings_of_pose():
    """What the pose stage warned of, once at the end: it stands far above in the output."""
    jobs = workflow.dag.needrun_jobs(exclude_finished=False) if workflow.dag else []
    logs = sorted(str(job.log[0]) for job in jobs if job.rule.name == "heatmaps")
    return warnings_of(logs)


rule true_heatmaps:
    # A control for the study: what a pose estimator that never errs would say of drawn people.
    input:
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
        joints=lambda w: f"{ARCHIVES}/{HEATMAPS.joints_of[w.dataset]}.joints.npz",
    output:
        f"cache/{EXPERIMENT}/true_heatmaps/{{dataset}}/{{split}}.h5",
    wildcard_constraints:
        dataset=any_of(HEATMAPS.joints_of),
    params:
        settings=as_json(settings.pose),
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
