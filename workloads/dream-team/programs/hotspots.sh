#!/usr/bin/bash
# An integrator: joins two surveyors' results, changes and size, into the files that deserve attention.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

# --root is the team's work folder here; the paths are result files below it.
jq -n --slurpfile churn "$root/${paths[0]}" --slurpfile sizes "$root/${paths[1]}" '
    ($sizes[0].figures.file_sizes | map({key: .file, value: .}) | from_entries) as $size
    | [$churn[0].figures.files[] | select($size[.file])
       | {file, commits, changed: (.added + .removed), code: $size[.file].code, lines: $size[.file].lines,
          language: $size[.file].language}
       | select(.language | IN("Markdown", "TOML", "JSON", "Text", "YAML", "Configuration") | not)
       | .heat = .commits * .code]
    | sort_by(-.heat)
    | {source: $churn[0].figures.source, files: .[:40], considered: length}' >"$scratch/figures"
jq -r '.considered, (.files[0].file // "none")' "$scratch/figures" >"$scratch/words"
{ read -r count && IFS= read -r first; } <"$scratch/words"
finish hotspots "$count files with a history; hottest: $first" "$scratch/figures" \
    "The most changed large file is $first. Should it be split? Answer in one sentence."
