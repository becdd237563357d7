#!/usr/bin/bash
# A surveyor: how often each file was changed, from a shipped history (--history FILE) or from .git.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

history=''
for ((i = 0; i < ${#extra[@]}; i += 2)); do
    [[ ${extra[i]} == --history ]] && history=${extra[i + 1]}
done
source=none
if [[ -n $history ]]; then
    source='file'
    cp "$history" "$scratch/history"
elif [[ -d $root/.git ]]; then
    source='git'
    "${BASH_SOURCE[0]%/*}/history.sh" "$root" >"$scratch/history"
else
    : >"$scratch/history"
fi

awk -F'\t' -v OFS='\t' -v days="$scratch/days" -v files="$scratch/rows" '
    /^commit / {split($0, word, " "); commits++; day = word[3]; per_day[day]++; next}
    NF == 3 {path = $3; seen[path]++; if ($1 != "-") {plus[path] += $1; minus[path] += $2; added[day] += $1; removed[day] += $2}}
    END {
        for (d in per_day) print d, per_day[d], added[d] + 0, removed[d] + 0 > days
        for (p in seen) print p, seen[p], plus[p] + 0, minus[p] + 0 > files
        print commits + 0
    }' "$scratch/history" >"$scratch/commits"
touch "$scratch/days" "$scratch/rows"
sort -t$'\t' -k2,2nr -k3,3nr "$scratch/rows" | head -n 1500 >"$scratch/top"
sort "$scratch/days" >"$scratch/sorted-days"

jq -n --arg source "$source" --slurpfile commits "$scratch/commits" --rawfile top "$scratch/top" --rawfile days "$scratch/sorted-days" '
    def rows: split("\n") | map(select(. != "") | split("\t"));
    {source: $source, commits: $commits[0],
     days: ($days | rows | map({day: .[0], commits: (.[1] | tonumber), added: (.[2] | tonumber), removed: (.[3] | tonumber)})),
     files: ($top | rows | map({file: .[0], commits: (.[1] | tonumber), added: (.[2] | tonumber), removed: (.[3] | tonumber)}))}' \
    >"$scratch/figures"
commits=$(<"$scratch/commits")
if [[ $source == none ]]; then
    headline='no history was given, so nothing is said about churn'
else
    days=$(wc -l <"$scratch/days")
    headline="$commits commits touched $(wc -l <"$scratch/rows") files on $days day$( ((days == 1)) || echo s)"
fi
finish churn "$headline" "$scratch/figures" "$commits commits in a project's history. What do often changed files tell a reviewer?"
