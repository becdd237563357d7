#!/usr/bin/bash
# A documenter: how much prose there is, and links in it that lead nowhere.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

tree_files -name '*.md' | tr '\n' '\0' >"$scratch/files"
files=0 words=0 headings=0 links=0 dead=0
: >"$scratch/rows"
# One program for all documents, not one for each: starting it takes longer than its work.
xargs -0 -r wc -w -- <"$scratch/files" >"$scratch/counts"
while read -r count file; do
    [[ $file != total ]] || continue
    files=$((files + 1)) words=$((words + count))
    printf '%s\t%s\n' "$count" "${file#"$root"/}" >>"$scratch/rows"
done <"$scratch/counts"
{ xargs -0 -r grep -hc '^#' -- <"$scratch/files" || true; } >"$scratch/headings"
while read -r count; do
    headings=$((headings + count))
done <"$scratch/headings"
{ xargs -0 -r grep -noHE '\]\([^)]+\)' -- <"$scratch/files" || true; } >"$scratch/links"
while IFS=: read -r file line target; do
    target=${target#*\](}
    target=${target%)}
    target=${target%%\#*}
    target=${target%% *}
    [[ -z $target || $target == *://* || $target == mailto:* ]] && continue
    links=$((links + 1))
    if [[ $target == /* || ! -e ${file%/*}/$target ]]; then
        dead=$((dead + 1))
        finding medium dead-link "$file" "$line" "links to $target, which is not there"
    fi
done <"$scratch/links"

[[ -e $root/README.md || -e $root/README ]] || finding high no-readme README.md 0 'the tree does not say what it is'
sort -rn "$scratch/rows" | head -n 12 >"$scratch/longest"
jq -n --argjson files "$files" --argjson words "$words" --argjson headings "$headings" --argjson links "$links" \
    --argjson dead "$dead" --rawfile longest "$scratch/longest" \
    '{files: $files, words: $words, headings: $headings, links: $links, dead_links: $dead,
      longest: [$longest | split("\n")[] | select(. != "") | split("\t") | {file: .[1], words: (.[0] | tonumber)}]}' \
    >"$scratch/figures"
finish prose "$words words in $files documents, $dead of $links inner links dead" "$scratch/figures" \
    "$files documents with $words words and $dead dead links. What does a new reader need first?"
