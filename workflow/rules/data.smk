# Archives -> images -> manifests.


rule draw_archive:
    # In the demo and the study: small synthetic archives in the real ones' layout.
    output:
        archive=f"{ARCHIVES}/{{archive}}",
        joints=f"{ARCHIVES}/{{archive}}.joints.npz",
    wildcard_constraints:
        archive=any_of(DRAWN),
    params:
        dataset=lambda w: DATASET_OF[w.archive],
        settings=as_json(settings.synthetic),
        code=lambda w: code_hash(
            "pgfl.datasets.synthetic.archives", f"pgfl.datasets.{DATASET_OF[w.archive]}"
        ),
    log:
        f"logs/{ARCHIVES}/{{archive}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Drawing {wildcards.archive} ({EXPERIMENT})"
    shell:
        "python -m pgfl archive synthesize {params.dataset} --out {output.archive:q}"
        " --joints {output.joints:q} --settings {params.settings:q} 2>&1 | tee {log:q}"


# Whatever comes as lists is laid out from them, all else as it is.
LISTS_ONLY = set() if is_assembled(settings) else {"occluded_duke"}


rule get_archive:
    # Found in the user's folder or downloaded; always checked.
    input:
        lambda w: or_exit(OWN.archive, DATASET_OF[w.archive]),
    output:
        archive=f"{ARCHIVES}/{{archive}}",
    wildcard_constraints:
        archive=any_of(BROUGHT),
    params:
        dataset=lambda w: DATASET_OF[w.archive],
        folder=settings.archives.folder,
        file=lambda w: option("file", settings.archives.files.get(DATASET_OF[w.archive])),
        url=lambda w: option("url", settings.archives.urls.get(w.archive)),
        size=lambda w: sizes(OWN.archive(DATASET_OF[w.archive])),
    log:
        f"logs/{ARCHIVES}/{{archive}}.log",
    conda:
        ENVIRONMENT
    priority: 100
    localrule: True  # a node of a cluster may have no network
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Getting {wildcards.archive}"
    shell:
        "python -m pgfl archive get {params.dataset} --out {output.archive:q}"
        " --folder {params.folder:q} {params.file} {params.url} 2>&1 | tee {log:q}"


rule extract:
    # From an archive, or from the folder that the user unpacked one to, which is only read.
    input:
        lambda w: or_exit(OWN.packed, w.dataset),
    output:
        directory(f"data/{EXPERIMENT}/{{dataset}}/images"),
    wildcard_constraints:
        dataset=any_of(set(SOURCES) - LISTS_ONLY),
    params:
        source=lambda w: OWN.place(w.dataset),
        stamp=lambda w: or_exit(OWN.unpacked_stamp, w.dataset),
        code=lambda w: reading_code("pgfl.datasets.archives", f"pgfl.datasets.{w.dataset}"),
    log:
        f"logs/data/{EXPERIMENT}/{{dataset}}/images.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Laying out {params.source}"
    shell:
        "python -m pgfl archive extract {params.source:q} {wildcards.dataset} --out {output:q}"
        " 2>&1 | tee {log:q}"


rule extract_lists:
    # Occluded-Duke is three lists of DukeMTMC-reID's file names.
    input:
        lambda w: or_exit(OWN.packed, "occluded_duke"),
    output:
        directory(f"data/{EXPERIMENT}/occluded_duke/lists"),
    params:
        source=lambda w: OWN.place("occluded_duke"),
        stamp=lambda w: or_exit(OWN.unpacked_stamp, "occluded_duke"),
        code=reading_code("pgfl.datasets.archives", "pgfl.datasets.occluded_duke"),
    log:
        f"logs/data/{EXPERIMENT}/occluded_duke/lists.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Laying out {params.source}"
    shell:
        "python -m pgfl archive extract {params.source:q} occluded_duke --out {output:q}"
        " 2>&1 | tee {log:q}"


rule lay_out_occluded_duke:
    input:
        lists=f"data/{EXPERIMENT}/{{dataset}}/lists",
        duke=f"data/{EXPERIMENT}/dukemtmc_reid/images",
    output:
        directory(f"data/{EXPERIMENT}/{{dataset}}/images"),
    wildcard_constraints:
        dataset=any_of(LISTS_ONLY),
    params:
        code=reading_code("pgfl.datasets.occluded_duke", "pgfl.datasets.dukemtmc_reid"),
    log:
        f"logs/data/{EXPERIMENT}/{{dataset}}/images.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Laying out Occluded-Duke from its lists and DukeMTMC-reID"
    shell:
        "python -m pgfl archive occluded-duke --lists {input.lists:q} --duke {input.duke:q}"
        " --out {output:q} 2>&1 | tee {log:q}"


rule crop_partial_duke:
    # Partial-Duke has no archive: it is DukeMTMC-reID with half of the images cropped.
    input:
        f"data/{EXPERIMENT}/dukemtmc_reid/images",
    output:
        directory(f"data/{EXPERIMENT}/partial_duke/images"),
    params:
        seed=settings.partial_duke.seed,
        code=reading_code("pgfl.datasets.partial_duke", "pgfl.datasets.dukemtmc_reid"),
    log:
        f"logs/data/{EXPERIMENT}/partial_duke/images.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Making Partial-Duke from DukeMTMC-reID"
    shell:
        "python -m pgfl archive partial-duke --duke {input:q} --out {output:q}"
        " --seed {params.seed} 2>&1 | tee {log:q}"


rule manifest:
    input:
        f"data/{EXPERIMENT}/{{dataset}}/images",
    output:
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        counts=f"data/{EXPERIMENT}/{{dataset}}/counts.json",
    wildcard_constraints:
        dataset=any_of(TRAIN_SET),
    params:
        # The published numbers hold for the published archives only.
        published=lambda w: "--no-check-published" if settings.is_synthetic(w.dataset) else "",
        code=lambda w: reading_code("pgfl.datasets.manifest", f"pgfl.datasets.{w.dataset}"),
    log:
        f"logs/data/{EXPERIMENT}/{{dataset}}/manifest.log",
    conda:
        ENVIRONMENT
    threads: 4  # to decode every image
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Listing and checking {wildcards.dataset}"
    shell:
        "python -m pgfl manifest {wildcards.dataset} --images {input:q} --out {output.manifest:q}"
        " --counts {output.counts:q} {params.published} 2>&1 | tee {log:q}"


rule take_own_dataset:
    input:
        lambda w: settings.datasets[w.dataset].table,
    output:
        images=directory(f"data/{EXPERIMENT}/{{dataset}}/images"),
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        counts=f"data/{EXPERIMENT}/{{dataset}}/counts.json",
    wildcard_constraints:
        dataset=any_of(settings.datasets),
    params:
        images=lambda w: OWN.images_folder(w.dataset),
        stamp=lambda w: option("stamp", or_exit(OWN.photographs_stamp, w.dataset)),
        code=code_hash("pgfl.datasets.custom"),
    log:
        f"logs/data/{EXPERIMENT}/{{dataset}}/manifest.log",
    conda:
        ENVIRONMENT
    threads: 4  # to decode every image
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Taking your data set {wildcards.dataset}"
    shell:
        "python -m pgfl take {input:q} --images {params.images:q} --laid-out {output.images:q}"
        " --manifest {output.manifest:q} --counts {output.counts:q}"
        " {params.stamp} 2>&1 | tee {log:q}"


rule contact_sheet:
    # What people look at to see that Partial-Duke is what it should be.
    input:
        manifest=f"data/{EXPERIMENT}/partial_duke/manifest.csv",
        images=f"data/{EXPERIMENT}/partial_duke/images",
    output:
        report(
            f"{RESULTS}/partial_duke.png",
            caption="../report/partial_duke.rst",
            category="Data sets",
            labels={"picture": "Partial-Duke"},
        ),
    params:
        code=reading_code("pgfl.reporting.more.contact_sheet"),
    log:
        f"logs/{RESULTS}/partial_duke.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Drawing examples of Partial-Duke"
    shell:
        "python -m pgfl contact-sheet {input.manifest:q} --out {output:q} 2>&1 | tee {log:q}"
