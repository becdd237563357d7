#!/usr/bin/bash
# A test analyst: shell scripts that do not parse, that go on after an error, that nobody can start.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

scripts=0 lines=0 broken=0 careless=0
# usage: look_at FILE
look_at() {
    local first problem
    IFS= read -r first <"$1" || true
    scripts=$((scripts + 1))
    lines=$((lines + $(wc -l <"$1")))
    if ! problem=$(bash -n -- "$1" 2>&1); then
        broken=$((broken + 1))
        finding high syntax "$1" 0 "bash -n: ${problem%%$'\n'*}"
    fi
    if [[ $first == '#!'* ]] && ! grep -qE '^[[:space:]]*(set -[a-z]*e|set -o errexit)|^#!.* -[a-z]*e|^(source|\.) ' "$1"; then
        careless=$((careless + 1))
        finding low no-set-e "$1" 1 'goes on after a command has failed (no set -e)'
    fi
}

for path in "${paths[@]}"; do
    look_at "$root/$path"
done
jq -n --argjson scripts "$scripts" --argjson lines "$lines" --argjson broken "$broken" --argjson careless "$careless" \
    '{scripts: $scripts, lines: $lines, syntax_errors: $broken, without_set_e: $careless}' >"$scratch/figures"
finish scripts "$scripts scripts, $broken with syntax errors, $careless go on after errors" "$scratch/figures" \
    "$scripts shell scripts with $lines lines, $careless without set -e. How should they be tested?"
