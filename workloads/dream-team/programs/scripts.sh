#!/usr/bin/bash
# A test analyst: shell scripts that do not parse, that go on after an error, that nobody can start.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

scripts=${#paths[@]} lines=0 broken=0 careless=0
files=("${paths[@]/#/$root/}")
for file in "${files[@]}"; do
    if ! problem=$(bash -n -- "$file" 2>&1); then
        broken=$((broken + 1))
        finding high syntax "$file" 0 "bash -n: ${problem%%$'\n'*}"
    fi
done
if ((scripts > 0)); then
    lines=$(cat -- "${files[@]}" | wc -l)
    # One `grep` for all of them, not one for each: starting it takes longer than its work.
    grep -LE '^[[:space:]]*(set -[a-z]*e|set -o errexit)|^#!.* -[a-z]*e|^(source|\.) ' -- "${files[@]}" >"$scratch/going-on" || true
    while IFS= read -r file; do
        IFS= read -r first <"$file" || true
        [[ $first == '#!'* ]] || continue
        careless=$((careless + 1))
        finding low no-set-e "$file" 1 'goes on after a command has failed (no set -e)'
    done <"$scratch/going-on"
fi
jq -n --argjson scripts "$scripts" --argjson lines "$lines" --argjson broken "$broken" --argjson careless "$careless" \
    '{scripts: $scripts, lines: $lines, syntax_errors: $broken, without_set_e: $careless}' >"$scratch/figures"
finish scripts "$scripts scripts, $broken with syntax errors, $careless go on after errors" "$scratch/figures" \
    "$scripts shell scripts with $lines lines, $careless without set -e. How should they be tested?"
