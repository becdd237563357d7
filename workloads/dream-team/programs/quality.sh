#!/usr/bin/bash
# An integrator: joins the reviewers' modules into one table of packages.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

# --root is the team's work folder here; the first path is the plan, the others are reviewers' results.
plan=$root/${paths[0]}
results=("${paths[@]:1}")
jq -n --slurpfile plan "$plan" '
    ($plan[0].modules | map({key: .name, value: .package}) | from_entries) as $package
    | ([inputs | .agent as $agent | .figures.modules[] | . + {agent: $agent, package: ($package[.name] // .name)}]
       | unique_by(.name)) as $modules
    | def total(f): map(f) | add;
      {packages: ($modules | group_by(.package) | map({
          name: .[0].package, agents: (map(.agent) | unique), files: total(.files), code: total(.code),
          comment: total(.comment), blank: total(.blank), functions: total(.functions), tests: total(.tests),
          marks: total(.marks), unsafe: total(.unsafe), public: total(.public), undocumented: total(.undocumented),
          panics: total(.panics)}) | sort_by(-.code)),
       longest_functions: ([$modules[].longest_functions[]] | sort_by(-.lines) | .[:15]),
       longest_files: ([$modules[].longest_files[]] | sort_by(-.lines) | .[:15]),
       totals: ($modules | {files: total(.files), code: total(.code), comment: total(.comment), functions: total(.functions),
          tests: total(.tests), marks: total(.marks), unsafe: total(.unsafe), public: total(.public),
          undocumented: total(.undocumented), panics: total(.panics)})}' "${results[@]/#/$root/}" >"$scratch/figures"
headline=$(jq -r '"\(.packages | length) packages, \(.totals.code) lines of code, \(.totals.functions) functions, \(.totals.tests) tests"' "$scratch/figures")
finish quality "$headline" "$scratch/figures" "A review found $headline. Where should a team spend its next week?"
