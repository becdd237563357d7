#!/usr/bin/bash
# A reviewer: measures the modules that it was given with treescan and asks a model with curl.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"
treescan=${TREESCAN:-${BASH_SOURCE[0]%/*}/../treescan}

headline=$("$treescan" review --root "$root" --agent "$agent" "${extra[@]}" --out "$scratch/review.json")
question=$(jq -r .question "$scratch/review.json")
ask "$question"
jq --arg model "$model" --slurpfile reply "$scratch/reply" '
    ($reply[0]) as $r | .program = "shell"
    | .model = (if $r == null then null else {
        model: ($r.model // $model), prompt: .question,
        text: (($r.choices[0].message.content // "") | gsub("^\\s+|\\s+$"; "")),
        prompt_tokens: ($r.usage.prompt_tokens // 0), completion_tokens: ($r.usage.completion_tokens // 0),
        error: (if $r.error then ($r.error.message // $r.error | tostring) else null end)} end)' \
    "$scratch/review.json" >"$out"
echo "$headline"
