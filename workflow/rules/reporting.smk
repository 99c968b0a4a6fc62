# The deliverables: nothing but what people read goes to results/.

PICTURE = ["png", "trace.json"]
TABLE = ["csv", "md", "trace.json"]


def no_images(*datasets):
    """The files that are missing, where a result is of some data sets' images and none is here."""
    return AT_HAND.cannot(datasets, images=True)


def no_evaluation(*test_sets):
    """The same, where it is of evaluations on some test sets."""
    return AT_HAND.cannot(test_sets)


# Every result by its name in results/: its kinds of file, and what it cannot be made without.
OFFERED = {
    "table1": (TABLE, no_images(*TRAIN_SET)),
    **{f"table{number}": (TABLE, no_evaluation(*TABLES[number].test_sets)) for number in TABLES},
    **{f"table{number}": (TABLE, no_evaluation(FEATURE_TEST_SET)) for number in (8, 9)},
    "figure1": (PICTURE, no_evaluation(FEATURE_TEST_SET)),
    "figure3": (["csv", *PICTURE], no_evaluation(SWEPT_ON)),
    "figure4": (["csv", *PICTURE], no_evaluation(FEATURE_TEST_SET)),
    **{
        f"compare_{name}": (["csv", "md", *PICTURE], no_evaluation(*comparison.test_sets))
        for name, comparison in settings.comparisons.items()
    },
    "heatmaps": (["png", "html"], no_images("occluded_duke")),
    "partial_duke": (["png"], no_images("partial_duke")),
    **{f"ranked_lists/{name}": (PICTURE, no_evaluation(name)) for name in TRAIN_SET},
    "failures": (["html", "trace.json"], no_evaluation(FEATURE_TEST_SET)),
    "visibility": (["csv", *PICTURE], no_evaluation(FEATURE_TEST_SET)),
    "training_curves": (PICTURE, no_evaluation(FEATURE_TEST_SET)),
    **{
        f"stress_{name}": (["csv", *PICTURE], no_evaluation(name))
        for name in settings.stress.test_sets
    },
}


def every_deliverable(without=()):
    """The files of all results but some."""
    return [
        f"{RESULTS}/{name}.{kind}"
        for name, (kinds, _) in OFFERED.items()
        if name not in without
        for kind in kinds
    ]


NOT_MADE = {name: missing for name, (_, missing) in OFFERED.items() if missing}
# What `rule all` makes and the report shows.
DELIVERABLES = every_deliverable(without=NOT_MADE)
CAPTIONS = sorted(
    os.path.relpath(path) for path in Path(workflow.basedir, "workflow/report").glob("*.rst")
)
PUBLISHED_TABLES = os.path.relpath(os.path.join(workflow.basedir, "pgfl/reporting/published"))


COUNTS_LEFT_OUT = AT_HAND.left_out(TRAIN_SET, images=True)
MANIFESTS = {
    dataset: f"data/{EXPERIMENT}/{dataset}/manifest.csv"
    for dataset in TRAIN_SET
    if dataset not in COUNTS_LEFT_OUT
}


def left_out(datasets):
    """The option that names what a table goes without; nothing where it is whole."""
    return option("left-out", as_json(datasets)) if datasets else ""


rule dataset_table:
    input:
        manifests=list(MANIFESTS.values()),
        counts=[path.replace("manifest.csv", "counts.json") for path in MANIFESTS.values()],
    output:
        csv=report(
            f"{RESULTS}/table1.csv",
            caption="../report/dataset_table.rst",
            category="Tables",
            labels={"table": "1"},
        ),
        markdown=f"{RESULTS}/table1.md",
        trace=f"{RESULTS}/table1.trace.json",
    params:
        manifests=as_json(MANIFESTS),
        left_out=left_out(COUNTS_LEFT_OUT),
        experiment=EXPERIMENT,
        code=code_hash(
            "pgfl.reporting.dataset_table",
            *(f"pgfl.datasets.{name}" for name in DATASETS),
            without=["pgfl.datasets.synthetic.people"],
        ),
    log:
        f"logs/{RESULTS}/table1.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Writing table 1"
    shell:
        "python -m pgfl dataset-table --out {output.csv:q} --manifests {params.manifests:q}"
        " {params.left_out} --experiment {params.experiment}"
        " --markdown {output.markdown:q} --trace {output.trace:q} 2>&1 | tee {log:q}"


def evaluation_files(variant, test_set):
    """One evaluation file a seed."""
    return [
        f"{run_folder(settings.trained_on(test_set), variant, seed)}/eval/{test_set}.json"
        for seed in settings.seeds
    ]


def evaluations_of(variants, test_sets):
    """Evaluation files: variant -> test set -> one a seed, none where the set is left out."""
    without = AT_HAND.left_out(test_sets)
    return {
        variant: {
            test_set: [] if test_set in without else evaluation_files(variant, test_set)
            for test_set in test_sets
        }
        for variant in variants
    }


def evaluations(number):
    """The evaluation files that a table is made of."""
    spec = TABLES[number].with_peers(settings.peers)
    return evaluations_of(spec.reproduced.values(), spec.test_sets)


def all_paths(tree):
    """The files at the ends of nested dictionaries."""
    if isinstance(tree, list):
        return tree
    return [path for part in tree.values() for path in all_paths(part)]


rule table:
    input:
        evaluations=lambda w: all_paths(evaluations(int(w.number))),
        published=f"{PUBLISHED_TABLES}/table{{number}}.csv",
    output:
        csv=report(
            f"{RESULTS}/table{{number}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{number}"},
        ),
        markdown=f"{RESULTS}/table{{number}}.md",
        trace=f"{RESULTS}/table{{number}}.trace.json",
    wildcard_constraints:
        number=any_of(map(str, TABLES)),
    params:
        evaluations=lambda w: as_json(evaluations(int(w.number))),
        left_out=lambda w: left_out(AT_HAND.left_out(TABLES[int(w.number)].test_sets)),
        title=lambda w: TABLES[int(w.number)].title,  # for the report
        experiment=LABEL,
        code=code_hash("pgfl.reporting.tables"),
    log:
        f"logs/{RESULTS}/table{{number}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Writing table {wildcards.number}"
    shell:
        "python -m pgfl table {wildcards.number} --out {output.csv:q}"
        " --evaluations {params.evaluations:q} {params.left_out} --experiment {params.experiment:q}"
        " --markdown {output.markdown:q} --trace {output.trace:q} 2>&1 | tee {log:q}"


def compared(name):
    """The evaluation files of a comparison of the user's own."""
    comparison = settings.comparisons[name]
    return evaluations_of(comparison.variants, comparison.test_sets)


rule comparison:
    # Variants side by side, as the configuration's `comparisons` name them.
    input:
        lambda w: all_paths(compared(w.name)),
    output:
        csv=report(
            f"{RESULTS}/compare_{{name}}.csv",
            caption="../report/comparison.rst",
            category="Tables",
            labels={"table": "{name}"},
        ),
        figure=report(
            f"{RESULTS}/compare_{{name}}.png",
            caption="../report/comparison.rst",
            category="Figures",
            labels={"figure": "comparison: {name}"},
        ),
        markdown=f"{RESULTS}/compare_{{name}}.md",
        trace=f"{RESULTS}/compare_{{name}}.trace.json",
    wildcard_constraints:
        name=any_of(settings.comparisons),
    params:
        # Not sorted, since rows keep their order.
        evaluations=lambda w: json.dumps(compared(w.name)),
        against=lambda w: option("against", settings.comparisons[w.name].against),
        left_out=lambda w: left_out(AT_HAND.left_out(settings.comparisons[w.name].test_sets)),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.comparison"),
    log:
        f"logs/{RESULTS}/compare_{{name}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Comparing variants: {wildcards.name}"
    shell:
        "python -m pgfl compare {wildcards.name:q} --out {output.csv:q}"
        " --evaluations {params.evaluations:q} {params.against} {params.left_out}"
        " --experiment {params.experiment:q} --figure {output.figure:q}"
        " --markdown {output.markdown:q} --trace {output.trace:q} 2>&1 | tee {log:q}"


FEATURE_MANIFEST = f"data/{EXPERIMENT}/{FEATURE_TEST_SET}/manifest.csv"
FEATURE_IMAGES = f"data/{EXPERIMENT}/{FEATURE_TEST_SET}/images"


def feature_run(variant, seed):
    return run_folder(TRAIN_SET[FEATURE_TEST_SET], variant, seed)


def diagnosed():
    """The networks to look into: Table 6's and those compared on its test set, first seed."""
    variants = [
        *TABLES[6].reproduced.values(),
        *(
            name
            for comparison in settings.comparisons.values()
            if FEATURE_TEST_SET in comparison.test_sets
            for name in comparison.variants
        ),
    ]
    return {
        variant: {
            "model": f"{feature_run(variant, settings.seeds[0])}/model.safetensors",
            "branches": f"{feature_run(variant, settings.seeds[0])}/branches.safetensors",
            "heatmaps": training_heatmaps(variant, TRAIN_SET[FEATURE_TEST_SET]),
            "recipe": settings.recipe(variant).model_dump(mode="json"),
        }
        for variant in dict.fromkeys(variants)
        # Others have no f_G to look at.
        if settings.recipe(variant).student_method == "bot"
    }


def diagnosed_files(wildcards):
    return [
        network[file]
        for network in diagnosed().values()
        for file in ("model", "branches", "heatmaps")
        if network[file]
    ]


rule diagnosis:
    # Not among the deliverables: for those who want to know why a variant does what it does.
    input:
        networks=diagnosed_files,
        manifest=FEATURE_MANIFEST,
        images=FEATURE_IMAGES,
    output:
        csv=f"{RESULTS}/diagnosis.csv",
        markdown=f"{RESULTS}/diagnosis.md",
        trace=f"{RESULTS}/diagnosis.trace.json",
    params:
        networks=lambda w: json.dumps(diagnosed()),
        own_heatmaps=lambda w: own_stamps(diagnosed_files(w)),
        seed=settings.seeds[0],
        experiment=LABEL,
        code=lambda w: code_hash(
            "pgfl.reporting.diagnosis", *{settings.recipe(name).module for name in diagnosed()}
        ),
    log:
        f"logs/{RESULTS}/diagnosis.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.train_threads)
    resources:
        gpu=1,
        mem_mb=settings.resources.train_memory,
    message:
        "Looking inside the trained networks"
    shell:
        "python -m pgfl diagnose {input.manifest:q} --networks {params.networks:q}"
        " --out {output.csv:q} --experiment {params.experiment:q} --seed {params.seed}"
        " --threads {threads}"
        " --markdown {output.markdown:q} --trace {output.trace:q} 2>&1 | tee {log:q}"


rule pose_report:
    # What people look at to see that the heatmaps are what they should be.
    input:
        manifest=f"data/{EXPERIMENT}/occluded_duke/manifest.csv",
        images=f"data/{EXPERIMENT}/occluded_duke/images",
        heatmaps=heatmaps_file("occluded_duke", "train"),
    output:
        page=f"{RESULTS}/heatmaps.html",
        figure=report(
            f"{RESULTS}/heatmaps.png",
            caption="../report/heatmaps.rst",
            category="Data sets",
            labels={"picture": "Heatmaps of Occluded-Duke"},
        ),
    params:
        experiment=EXPERIMENT,
        photographs="--photographs" if settings.has_photographs("occluded_duke") else "",
        own_heatmaps=own_stamps([heatmaps_file("occluded_duke", "train")]),
        code=code_hash("pgfl.reporting.pose_report"),
    log:
        f"logs/{RESULTS}/heatmaps.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=settings.resources.memory,
    message:
        "Drawing the heatmaps of Occluded-Duke's training images"
    shell:
        "python -m pgfl heatmaps report {input.heatmaps:q} --manifest {input.manifest:q}"
        " --out {output.page:q} --figure {output.figure:q} --experiment {params.experiment}"
        " {params.photographs} 2>&1 | tee {log:q}"


SWEEPS = {
    parameter: {
        short_number(value): evaluation_files(variant, SWEPT_ON)
        for value, variant in settings.sweep(parameter).items()
    }
    for parameter in type(settings.sweeps).model_fields
}


rule figure3:
    # Every point of the curves is a variant like any other.
    input:
        evaluations=all_paths(SWEEPS),
        published=f"{PUBLISHED_TABLES}/table2.csv",
    output:
        csv=f"{RESULTS}/figure3.csv",
        figure=report(
            f"{RESULTS}/figure3.png",
            caption="../report/figure3.rst",
            category="Figures",
            labels={"figure": "3"},
        ),
        trace=f"{RESULTS}/figure3.trace.json",
    params:
        sweeps=as_json(SWEEPS),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.figure3"),
    log:
        f"logs/{RESULTS}/figure3.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Drawing figure 3"
    shell:
        "python -m pgfl figure3 --out {output.csv:q} --sweeps {params.sweeps:q}"
        " --experiment {params.experiment:q}"
        " --figure {output.figure:q} --trace {output.trace:q} 2>&1 | tee {log:q}"


# Tables 8 and 9, Figures 1 and 4: what a trained model does at test time.

RESPONSES_OF = {"Baseline": "baseline", "PGFL-KD": "pgfl_kd"}


def feature_evaluations():
    """The evaluation files of Table 8: method -> one file a seed."""

    def file(row, seed):
        kind = f".{row.feature}" if row.needs_pose else ""
        return f"{feature_run(row.variant, seed)}/eval/{FEATURE_TEST_SET}{kind}.json"

    return {
        method: [file(row, seed) for seed in settings.seeds]
        for method, row in FEATURE_ROWS.items()
    }


def pose_of_tables():
    """The pose network of Tables 8 and 9: `external` where another program made their maps."""
    reading = reading_of("pgfl_kd")
    splits = ("query", "gallery")
    theirs = {heatmaps_file(FEATURE_TEST_SET, split, reading) for split in splits}
    if theirs & OWN_HEATMAPS:
        return READINGS[reading].model_copy(update={"estimator": EXTERNAL})
    return READINGS[reading]


def without_network():
    return pose_of_tables().estimator == EXTERNAL


def students(variants):
    """Trained students: method -> one file a seed."""
    return {
        method: [f"{feature_run(variant, seed)}/model.safetensors" for seed in settings.seeds]
        for method, variant in variants.items()
    }


rule feature_table:
    input:
        evaluations=all_paths(feature_evaluations()),
        published=f"{PUBLISHED_TABLES}/table8.csv",
    output:
        csv=report(
            f"{RESULTS}/table8.csv",
            caption="../report/table8.rst",
            category="Tables",
            labels={"table": "8"},
        ),
        markdown=f"{RESULTS}/table8.md",
        trace=f"{RESULTS}/table8.trace.json",
    params:
        evaluations=as_json(feature_evaluations()),
        # What runs at test time does not depend on how it was trained.
        recipes=as_json(
            {
                row.variant: settings.recipe(row.variant).model_dump(
                    mode="json", include={"method", "model", "settings"}
                )
                for row in FEATURE_ROWS.values()
            }
        ),
        pose=as_pose(pose_of_tables()),
        experiment=LABEL,
        code=code_hash(
            "pgfl.reporting.feature_table",
            *{settings.recipe(row.variant).module for row in FEATURE_ROWS.values()},
            *architecture_code(pose_of_tables().estimator),
        ),
    log:
        f"logs/{RESULTS}/table8.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=settings.resources.memory,
    message:
        "Writing table 8"
    shell:
        "python -m pgfl feature-table --out {output.csv:q} --evaluations {params.evaluations:q}"
        " --recipes {params.recipes:q} --pose {params.pose:q} --experiment {params.experiment:q}"
        " --markdown {output.markdown:q} --trace {output.trace:q} 2>&1 | tee {log:q}"


rule speed_table:
    # All cores, so that Snakemake runs nothing beside it while it looks at the clock.
    input:
        model=f"{feature_run('pgfl_kd', settings.seeds[0])}/model.safetensors",
        branches=f"{feature_run('pgfl_kd', settings.seeds[0])}/branches.safetensors",
        manifest=FEATURE_MANIFEST,
        images=FEATURE_IMAGES,
        weights=[] if without_network() else pose_weights(pose_of_tables()),
        published=f"{PUBLISHED_TABLES}/table9.csv",
    output:
        csv=report(
            f"{RESULTS}/table9.csv",
            caption="../report/table9.rst",
            category="Tables",
            labels={"table": "9"},
        ),
        markdown=f"{RESULTS}/table9.md",
        trace=f"{RESULTS}/table9.trace.json",
    params:
        pose=as_pose(pose_of_tables()),
        weights=lambda w, input: option("weights", input.weights),
        experiment=LABEL,
        code=code_hash(
            "pgfl.reporting.speed_table", *architecture_code(pose_of_tables().estimator)
        ),
    log:
        f"logs/{RESULTS}/table9.log",
    conda:
        ENVIRONMENT
    threads: CORES or settings.resources.train_threads
    resources:
        gpu=1,
        mem_mb=settings.resources.memory,
    message:
        "Timing queries for table 9"
    shell:
        "python -m pgfl speed-table {input.model:q} {input.manifest:q} --out {output.csv:q}"
        " --branches {input.branches:q} {params.weights} --pose {params.pose:q}"
        " --experiment {params.experiment:q} --threads {threads}"
        " --markdown {output.markdown:q} --trace {output.trace:q} 2>&1 | tee {log:q}"


rule baseline_responses:
    input:
        models=all_paths(students({"Baseline": "baseline"})),
        manifest=FEATURE_MANIFEST,
        images=FEATURE_IMAGES,
    output:
        figure=report(
            f"{RESULTS}/figure1.png",
            caption="../report/figure1.rst",
            category="Figures",
            labels={"figure": "1"},
        ),
        trace=f"{RESULTS}/figure1.trace.json",
    params:
        students=as_json(students({"Baseline": "baseline"})),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.response_figure"),
    log:
        f"logs/{RESULTS}/figure1.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.train_threads)
    resources:
        gpu=1,
        mem_mb=settings.resources.memory,
    message:
        "Drawing figure 1"
    shell:
        "python -m pgfl response-figure {input.manifest:q} --out {output.figure:q}"
        " --students {params.students:q} --experiment {params.experiment:q} --threads {threads}"
        " --trace {output.trace:q} 2>&1 | tee {log:q}"


rule responses:
    input:
        models=all_paths(students(RESPONSES_OF)),
        manifest=FEATURE_MANIFEST,
        images=FEATURE_IMAGES,
        heatmaps=heatmaps_file(FEATURE_TEST_SET, "query"),
    output:
        figure=report(
            f"{RESULTS}/figure4.png",
            caption="../report/figure4.rst",
            category="Figures",
            labels={"figure": "4"},
        ),
        csv=f"{RESULTS}/figure4.csv",
        trace=f"{RESULTS}/figure4.trace.json",
    params:
        students=as_json(students(RESPONSES_OF)),
        own_heatmaps=own_stamps([heatmaps_file(FEATURE_TEST_SET, "query")]),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.response_figure"),
    log:
        f"logs/{RESULTS}/figure4.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.train_threads)
    resources:
        gpu=1,
        mem_mb=settings.resources.memory,
    message:
        "Drawing figure 4"
    shell:
        "python -m pgfl response-figure {input.manifest:q} --out {output.figure:q}"
        " --students {params.students:q} --experiment {params.experiment:q}"
        " --heatmaps {input.heatmaps:q} --table {output.csv:q} --threads {threads}"
        " --trace {output.trace:q} 2>&1 | tee {log:q}"


# What people come back for in runs/: asked for by name, so that what somebody deleted is noticed.
# Images, heatmaps and the like may go to free the disk; they are made again once something that
# has to run needs them.
SHOWN = {
    **{f"table{number}": evaluations(number) for number in TABLES},
    **{f"compare_{name}": compared(name) for name in settings.comparisons},
    "figure3": SWEEPS,
    "table8": feature_evaluations(),
}
EVALUATED = {
    path for name, files in SHOWN.items() if name not in NOT_MADE for path in all_paths(files)
}
KEPT = [
    *sorted(EVALUATED),
    # Evaluations with the pose (Table 8) have a second dot in their names, and no such file.
    *(
        path.replace(".json", ".queries.csv")
        for path in sorted(EVALUATED)
        if os.path.basename(path).count(".") == 1
    ),
    *expand(
        "{run}/{file}",
        run=sorted({path.split("/eval/")[0] for path in EVALUATED}),
        file=["model.safetensors", "branches.safetensors", "history.csv", "provenance.json"],
    ),
]


# The tables with empty cells, and whose cells they are.
GAPS = {
    name: missing
    for name, missing in {
        "table1": COUNTS_LEFT_OUT,
        **{f"table{n}": AT_HAND.left_out(spec.test_sets) for n, spec in TABLES.items()},
        **{
            f"compare_{name}": AT_HAND.left_out(comparison.test_sets)
            for name, comparison in settings.comparisons.items()
        },
    }.items()
    if missing
}


def left_out_of(gaps, datasets, not_made):
    """The list of what is left out, as lines."""
    lacking = {dataset: AT_HAND.of_evaluation(dataset) for dataset in datasets}
    return list(left_out_lines(lacking, not_made, gaps))


LEFT_OUT = left_out_of(GAPS, {*TRAIN_SET, *sum(map(list, GAPS.values()), [])}, NOT_MADE)


rule html_report:
    # Snakemake's own report of all deliverables. A second Snakemake makes it, which only reads;
    # as a rule it is made again when, and only when, something in it has changed.
    input:
        results=DELIVERABLES,
        captions=CAPTIONS,
    output:
        f"{RESULTS}/report.html",
    params:
        # What jobs may take changes no result, and so makes no new report.
        config=as_json({name: value for name, value in config.items() if name != "resources"}),
        left_out=LEFT_OUT,
        snakefile=os.path.relpath(workflow.main_snakefile),
        code=code_hash("pgfl.reporting.report"),
    log:
        f"logs/{RESULTS}/report.log",
    conda:
        ENVIRONMENT
    localrule: True
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Writing {output}"
    shell:
        "python -m pgfl report {input.results:q} --out {output:q} --config {params.config:q}"
        " --snakefile {params.snakefile:q} 2>&1 | tee {log:q}"
