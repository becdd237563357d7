#!/usr/bin/bash
# Prints the history of a repository in the form that churn.sh reads: `commit HASH DATE`, then numstat lines.
# The image is built without .git: there, this runs on the build machine and its output is shipped.
set -euo pipefail
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat GIT_OPTIONAL_LOCKS=0
exec git -c safe.directory='*' -c core.quotePath=false -C "${1:?usage: history.sh DIR}" \
    log --no-renames --numstat --date=short --format='commit %h %ad'
