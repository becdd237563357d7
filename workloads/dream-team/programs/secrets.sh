#!/usr/bin/bash
# A security auditor: secrets in the tree, files that anybody may change, blobs that nobody can review.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

tree_files >"$scratch/files"
patterns=0
# usage: pattern RULE SEVERITY TEXT REGEX
pattern() {
    patterns=$((patterns + 1))
    local file line
    # The patterns are ASCII: whether a file's other letters are valid text is no question here, and takes time.
    tr '\n' '\0' <"$scratch/files" | { LC_ALL=C xargs -0 -r grep -nIHE -e "$4" -- || true; } | head -n 20 >"$scratch/hits"
    while IFS=: read -r file line _; do
        finding "$2" "$1" "$file" "$line" "$3"
    done <"$scratch/hits"
}

pattern private-key high 'looks like a private key' '-----BEGIN [A-Z ]*PRIVATE KEY-----'
pattern cloud-key high 'looks like a cloud access key' '(^|[^A-Z0-9])AKIA[0-9A-Z]{16}([^A-Z0-9]|$)'
pattern api-token high 'looks like an API token' "(ghp_[A-Za-z0-9]{36}|xox[bap]-[0-9]{8,}-[A-Za-z0-9-]{20,}|[\"' =]sk-[A-Za-z0-9_-]{32,})"
pattern password medium 'a password as a constant' '(password|passwd|secret)[A-Za-z_]*"?[[:space:]]*[:=][[:space:]]*"[^"$<{ ]{8,}"'
grep -v '/LICENSE[^/]*$' "$scratch/files" >"$scratch/own" && mv "$scratch/own" "$scratch/files"
pattern unencrypted low 'an address without encryption' 'http://([a-z0-9-]+\.)+(com|org|net|io)(/|"|$)'

writable=0
tree_files -perm -0002 >"$scratch/writable"
while IFS= read -r file; do
    writable=$((writable + 1))
    finding medium world-writable "$file" 0 'anybody on the machine may change this file'
done <"$scratch/writable"

blobs=0
tree_files -size +256k >"$scratch/blobs"
while IFS= read -r file; do
    blobs=$((blobs + 1))
    finding low blob "$file" 0 'more than 256 KiB in one file: hard to review'
done <"$scratch/blobs"

files=$(wc -l <"$scratch/files")
hits=$(wc -l <"$scratch/findings")
jq -n --argjson files "$files" --argjson hits "$hits" --argjson patterns "$patterns" \
    --argjson writable "$writable" --argjson blobs "$blobs" --rawfile found "$scratch/findings" '
    {files: $files, patterns: $patterns, hits: $hits, world_writable: $writable, blobs: $blobs,
     rules: ($found | split("\n") | map(select(. != "") | split("\t")[1]) | group_by(.) | map({key: .[0], value: length}) | from_entries)}' \
    >"$scratch/figures"
finish secrets "$files files against $patterns patterns: $hits hit$( ((hits == 1)) || echo s)" "$scratch/figures" \
    "A scan of $files source files for secrets has $hits hits. What should be checked by hand?"
