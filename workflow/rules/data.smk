# Archives -> images -> manifests.


def code_of(module, dataset):
    """The code that reads a data set; how the demo draws people is none of it."""
    modules = (f"pgfl.datasets.{name}" for name in (module, dataset))
    return code_hash(*modules, without=["pgfl.datasets.synthetic.people"])


rule draw_archive:
    # In the demo and the study: small synthetic archives in the real ones' layout.
    output:
        archive=f"{ARCHIVES}/{{archive}}",
        joints=f"{ARCHIVES}/{{archive}}.joints.npz",
    wildcard_constraints:
        archive=any_of(DRAWN),
    params:
        dataset=lambda w: DATASET_OF[w.archive],
        settings=section("synthetic"),
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


@cache
def own_source(dataset):
    """The user's own archive or unpacked folder of a data set, where one can be seen from here."""
    own = settings.archives.files.get(dataset)
    folder = Path(settings.archives.folder)
    return or_exit(find_source, SOURCES[dataset], folder, Path(own) if own else None)


def own_archive(wildcards):
    """The user's own file for an archive."""
    own = own_source(DATASET_OF[wildcards.archive])
    return [str(own)] if own is not None and own.is_file() else []


def unpacked(dataset):
    """The folder that a data set lies in unpacked; nothing where it comes in an archive."""
    own = None if settings.is_synthetic(dataset) else own_source(dataset)
    return str(own) if own is not None and own.is_dir() else ""


def archive_of(dataset):
    """The archive that a data set is unpacked from, if it is."""
    return [] if unpacked(dataset) else [f"{ARCHIVES}/{SOURCES[dataset].name}"]


@cache
def unpacked_stamp(dataset):
    """Another value where files of an unpacked data set came, went or changed."""
    folder = unpacked(dataset)
    try:
        return stamp_of_folder(dataset, Path(folder)) if folder else ""
    except UserError as error:
        # Not an exception: Snakemake would put a traceback of its own around it.
        fail(UserError(f"{SOURCES[dataset].title}: {error}"))


# Whatever comes as lists is laid out from them, all else as it is.
LISTS_ONLY = set() if is_assembled(settings) else {"occluded_duke"}


rule get_archive:
    # Found in the user's folder or downloaded; always checked.
    input:
        own_archive,
    output:
        archive=f"{ARCHIVES}/{{archive}}",
    wildcard_constraints:
        archive=any_of(BROUGHT),
    params:
        dataset=lambda w: DATASET_OF[w.archive],
        folder=settings.archives.folder,
        file=lambda w: option("file", settings.archives.files.get(DATASET_OF[w.archive])),
        url=lambda w: option("url", settings.archives.urls.get(w.archive)),
        size=lambda w: sizes(own_archive(w)),
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
        lambda w: archive_of(w.dataset),
    output:
        directory(f"data/{EXPERIMENT}/{{dataset}}/images"),
    wildcard_constraints:
        dataset=any_of(set(SOURCES) - LISTS_ONLY),
    params:
        source=lambda w: unpacked(w.dataset) or archive_of(w.dataset)[0],
        stamp=lambda w: unpacked_stamp(w.dataset),
        code=lambda w: code_of("archives", w.dataset),
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
        lambda w: archive_of("occluded_duke"),
    output:
        directory(f"data/{EXPERIMENT}/occluded_duke/lists"),
    params:
        source=lambda w: unpacked("occluded_duke") or archive_of("occluded_duke")[0],
        stamp=lambda w: unpacked_stamp("occluded_duke"),
        code=code_of("archives", "occluded_duke"),
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
        code=code_of("occluded_duke", "dukemtmc_reid"),
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
        code=code_of("partial_duke", "dukemtmc_reid"),
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
        code=lambda w: code_of("manifest", w.dataset),
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


def own_images(wildcards):
    """The folder that the image names of a user's own table start from."""
    return str(settings.datasets[wildcards.dataset].files[1])


def photographs(wildcards):
    """Another value where the listed photographs are no longer those that were taken."""
    table = settings.datasets[wildcards.dataset].table
    folder = f"data/{EXPERIMENT}/{wildcards.dataset}"
    try:
        return option("stamp", stamp_of(Path(table), Path(own_images(wildcards)), Path(folder)))
    except UserError as error:
        # Not an exception: Snakemake would put a traceback of its own around it.
        fail(UserError(f"setting datasets.{wildcards.dataset}: {error}"))


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
        images=own_images,
        stamp=photographs,
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
        code=code_hash(
            "pgfl.reporting.contact_sheet", without=["pgfl.datasets.synthetic.people"]
        ),
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
