# The deliverables: nothing but what people read goes to results/.

# What `rule all` makes and the report shows.
DELIVERABLES = RESULT.deliverables()
CAPTIONS = sorted(
    os.path.relpath(path) for path in Path(workflow.basedir, "workflow/report").glob("*.rst")
)
PUBLISHED_TABLES = os.path.relpath(os.path.join(workflow.basedir, "pgfl/reporting/paper/published"))


rule dataset_table:
    input:
        manifests=list(RESULT.manifests().values()),
        counts=[
            path.replace("manifest.csv", "counts.json") for path in RESULT.manifests().values()
        ],
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
        manifests=as_json(RESULT.manifests()),
        left_out=json_option("left-out", RESULT.uncounted),
        experiment=EXPERIMENT,
        code=reading_code(
            "pgfl.reporting.paper.dataset_table", *(f"pgfl.datasets.{name}" for name in DATASETS)
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


rule table:
    input:
        evaluations=lambda w: all_paths(RESULT.evaluations(int(w.number))),
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
        evaluations=lambda w: as_json(RESULT.evaluations(int(w.number))),
        left_out=lambda w: json_option("left-out", RESULT.gaps.get(f"table{w.number}")),
        title=lambda w: TABLES[int(w.number)].title,  # for the report
        experiment=LABEL,
        code=code_hash("pgfl.reporting.paper.tables"),
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


rule comparison:
    # Variants side by side, as the configuration's `comparisons` name them.
    input:
        lambda w: all_paths(RESULT.compared(w.name)),
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
        evaluations=lambda w: json.dumps(RESULT.compared(w.name)),
        against=lambda w: option("against", settings.comparisons[w.name].against),
        left_out=lambda w: json_option("left-out", RESULT.gaps.get(f"compare_{w.name}")),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.more.comparison"),
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


rule diagnosis:
    # Not among the deliverables: for those who want to know why a variant does what it does.
    input:
        networks=lambda w: or_exit(RESULT.diagnosed_files),
        manifest=FEATURE_MANIFEST,
        images=FEATURE_IMAGES,
    output:
        csv=f"{RESULTS}/diagnosis.csv",
        markdown=f"{RESULTS}/diagnosis.md",
        trace=f"{RESULTS}/diagnosis.trace.json",
    params:
        networks=lambda w: json.dumps(RESULT.diagnosed()),
        own_heatmaps=lambda w: HEATMAPS.own_stamps(RESULT.diagnosed_files()),
        seed=settings.seeds[0],
        experiment=LABEL,
        code=lambda w: code_hash(
            "pgfl.reporting.more.diagnosis",
            *{settings.recipe(name).module for name in RESULT.diagnosed()},
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
        heatmaps=HEATMAPS.file("occluded_duke", "train"),
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
        own_heatmaps=HEATMAPS.own_stamps([HEATMAPS.file("occluded_duke", "train")]),
        code=code_hash("pgfl.reporting.more.pose_report"),
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


rule figure3:
    # Every point of the curves is a variant like any other.
    input:
        evaluations=all_paths(RESULT.sweeps),
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
        sweeps=as_json(RESULT.sweeps),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.paper.figure3"),
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

POSE_OF_TABLES = HEATMAPS.pose_of_test("pgfl_kd", FEATURE_TEST_SET)


rule feature_table:
    input:
        evaluations=all_paths(RESULT.feature_evaluations()),
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
        evaluations=as_json(RESULT.feature_evaluations()),
        recipes=as_json(RESULT.feature_recipes()),
        pose=as_json(POSE_OF_TABLES),
        experiment=LABEL,
        code=code_hash(
            "pgfl.reporting.paper.feature_table",
            *{settings.recipe(row.variant).module for row in FEATURE_ROWS.values()},
            *architecture_code(POSE_OF_TABLES.estimator),
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
        model=f"{RESULT.feature_run('pgfl_kd', settings.seeds[0])}/model.safetensors",
        branches=f"{RESULT.feature_run('pgfl_kd', settings.seeds[0])}/branches.safetensors",
        manifest=FEATURE_MANIFEST,
        images=FEATURE_IMAGES,
        weights=[] if POSE_OF_TABLES.estimator == EXTERNAL else pose_weights(POSE_OF_TABLES),
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
        pose=as_json(POSE_OF_TABLES),
        weights=lambda w, input: option("weights", input.weights),
        experiment=LABEL,
        code=code_hash(
            "pgfl.reporting.paper.speed_table", *architecture_code(POSE_OF_TABLES.estimator)
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


BASELINES = {"Baseline": RESULT.students()["Baseline"]}


rule baseline_responses:
    input:
        models=all_paths(BASELINES),
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
        students=as_json(BASELINES),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.paper.response_figure"),
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
        models=all_paths(RESULT.students()),
        manifest=FEATURE_MANIFEST,
        images=FEATURE_IMAGES,
        heatmaps=HEATMAPS.file(FEATURE_TEST_SET, "query"),
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
        students=as_json(RESULT.students()),
        own_heatmaps=HEATMAPS.own_stamps([HEATMAPS.file(FEATURE_TEST_SET, "query")]),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.paper.response_figure"),
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
        left_out=RESULT.left_out(),
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
