#!/usr/bin/bash
# A security auditor: what comes from outside, whether it is pinned, and what is there twice.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

tree_files \( -name Cargo.lock -o -name 'requirements*.txt' -o -name '*requirements.txt' -o -name package.json \
    -o -name Cargo.toml -o -name Dockerfile \) >"$scratch/files"

packages=0 twice=0 from_git=0
grep '/Cargo\.lock$' "$scratch/files" >"$scratch/locks" || true
grep 'requirements[^/]*\.txt$' "$scratch/files" >"$scratch/lists" || true
while IFS= read -r lock; do
    awk -v OFS='\t' '/^name = / {gsub(/"/, "", $3); name = $3} /^version = / {gsub(/"/, "", $3); version = $3}
        /^source = / {gsub(/"/, "", $3); print name, version, $3, NR}' "$lock" >"$scratch/lock"
    packages=$((packages + $(wc -l <"$scratch/lock")))
    awk -F'\t' '{all[$1] = all[$1] ? all[$1] " and " $2 : $2; n[$1]++}
        END {for (name in n) if (n[name] > 1) print name "\t" all[name]}' "$scratch/lock" | sort >"$scratch/twice"
    awk -F'\t' '$3 ~ /^git/' "$scratch/lock" >"$scratch/git"
    while IFS=$'\t' read -r name versions; do
        twice=$((twice + 1))
        finding low two-versions "$lock" 0 "$name is there in versions $versions"
    done <"$scratch/twice"
    while IFS=$'\t' read -r name _ source line; do
        from_git=$((from_git + 1))
        finding medium git-source "$lock" "$line" "$name comes from ${source%%\#*}, not from a registry"
    done <"$scratch/git"
done <"$scratch/locks"

pinned=0 loose=0
while IFS= read -r list; do
    grep -nE '^[A-Za-z0-9]' "$list" >"$scratch/requirements" || true
    while IFS=: read -r line requirement; do
        if [[ $requirement == *==* ]]; then
            pinned=$((pinned + 1))
        else
            loose=$((loose + 1))
            finding medium unpinned "$list" "$line" "${requirement%% *} has no exact version"
        fi
    done <"$scratch/requirements"
done <"$scratch/lists"

manifests=$(grep -c '/Cargo\.toml$' "$scratch/files" || true)
if ((manifests > 0)) && ! grep -q '/Cargo\.lock$' "$scratch/files"; then
    finding high no-lock-file Cargo.toml 0 'Cargo.toml without Cargo.lock: a build today is not the build of tomorrow'
fi
exact=$(grep -E '/Cargo\.toml$' "$scratch/files" | tr '\n' '\0' | xargs -0 -r grep -hE '"=[0-9]' | wc -l || true)

jq -n --argjson packages "$packages" --argjson twice "$twice" --argjson git "$from_git" --argjson pinned "$pinned" \
    --argjson loose "$loose" --argjson manifests "${manifests:-0}" --argjson exact "${exact:-0}" \
    '{packages: $packages, in_two_versions: $twice, from_git: $git, python_pinned: $pinned, python_loose: $loose,
      manifests: $manifests, exact_requirements: $exact}' >"$scratch/figures"
finish supply "$packages locked packages, $twice in two versions, $from_git from git" "$scratch/figures" \
    "A project locks $packages packages, $twice of them in two versions. Name one supply chain risk."
