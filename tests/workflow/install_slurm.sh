#!/usr/bin/env bash
# Debian's Slurm and munge for tests/workflow/test_slurm.py. Says why where that cannot be, and
# ends with status 3; starts no service. Arguments: a folder with python and pip, the plugin's pins.
set -euo pipefail

skip() {
    echo "test-slurm skipped: $1"
    exit 3
}

[ "$(uname -s)" = Linux ] || skip "Slurm runs on Linux"
[ "$(id -u)" = 0 ] || skip "only root can set up a Slurm of its own"
if ! command -v slurmctld slurmd sbatch munged > /dev/null; then
    command -v apt-get > /dev/null || skip "no slurmctld here, and no apt-get to install it"
    export DEBIAN_FRONTEND=noninteractive
    # Services are not to be started: the test runs its own, in a folder of its own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    { timeout 300 apt-get -qq update && timeout 600 apt-get -qq install --no-install-recommends \
        slurmctld slurmd slurm-client munge; } > /dev/null || skip "apt-get cannot install Slurm"
fi
"$1"/python -c 'import snakemake_executor_plugin_slurm' 2> /dev/null ||
    "$1"/pip install -q --disable-pip-version-check --no-deps -r "$2" ||
    skip "pip cannot install Snakemake's plugin for Slurm"
