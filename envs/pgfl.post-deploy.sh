#!/usr/bin/env bash
# MMPose and its kin go in without their declared dependencies (see the Makefile).
set -euo pipefail
"$CONDA_PREFIX/bin/pip" install --no-deps \
    mmcv-lite==2.1.0 mmpose==1.1.0 onedl-mmengine==0.10.12 xtcocotools==1.14.3
