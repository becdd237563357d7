#!/usr/bin/bash
# A documenter: how much prose there is, and links in it that lead nowhere.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

tree_files -name '*.md' >"$scratch/files"
files=0 words=0 headings=0 links=0 dead=0
: >"$scratch/rows"
while IFS= read -r file; do
    count=$(wc -w <"$file")
    files=$((files + 1)) words=$((words + count))
    headings=$((headings + $(grep -c '^#' "$file" || true)))
    printf '%s\t%s\n' "$count" "${file#"$root"/}" >>"$scratch/rows"
    grep -noE '\]\([^)]+\)' "$file" >"$scratch/links" || true
    while IFS=: read -r line target; do
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
done <"$scratch/files"

[[ -e $root/README.md || -e $root/README ]] || finding high no-readme README.md 0 'the tree does not say what it is'
sort -rn "$scratch/rows" | head -n 12 | jq -R 'split("\t") | {file: .[1], words: (.[0] | tonumber)}' | jq -s . >"$scratch/longest"
jq -n --argjson files "$files" --argjson words "$words" --argjson headings "$headings" --argjson links "$links" \
    --argjson dead "$dead" --slurpfile longest "$scratch/longest" \
    '{files: $files, words: $words, headings: $headings, links: $links, dead_links: $dead, longest: $longest[0]}' \
    >"$scratch/figures"
finish prose "$words words in $files documents, $dead of $links inner links dead" "$scratch/figures" \
    "$files documents with $words words and $dead dead links. What does a new reader need first?"
