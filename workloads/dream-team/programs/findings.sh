#!/usr/bin/bash
# An integrator: all agents' findings in one list, by severity and by rule.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

# --root is the team's work folder here; the paths are result files below it.
jq -n '
    def rank: {high: 0, medium: 1, low: 2}[.severity] // 3;
    [inputs | .agent as $agent | .findings[] | . + {agent: $agent}] as $all
    | {total: ($all | length),
       severities: ($all | group_by(rank) | map({severity: .[0].severity, findings: length})),
       rules: ($all | group_by(.rule) | map({rule: .[0].rule, severity: .[0].severity, findings: length}) | sort_by(-.findings)),
       list: ($all | sort_by(rank, .rule, .file, .line) | .[:250])}' "${paths[@]/#/$root/}" >"$scratch/figures"
jq '.total, ([.severities[] | select(.severity == "high") | .findings] | add // 0)' "$scratch/figures" >"$scratch/words"
{ read -r total && read -r high; } <"$scratch/words"
finish findings "$total findings, $high of them high" "$scratch/figures" \
    "A code review has $total findings, $high of them severe. Write its one-sentence summary."
