#!/usr/bin/bash
# A documenter: under which licences the tree stands, and which packages do not say so.
# shellcheck source=workloads/dream-team/programs/agent.sh
source "${BASH_SOURCE[0]%/*}/agent.sh"
parse_arguments "$@"

tree_files \( -iname 'LICENSE*' -o -iname 'COPYING*' \) | sort >"$scratch/texts"
tree_files \( -name '*.rs' -o -name '*.py' -o -name '*.sh' -o -name '*.c' -o -name '*.h' -o -name '*.ts' -o -name '*.js' \) >"$scratch/files"
tree_files -name Cargo.toml >"$scratch/manifests"

# usage: kind FILE; names a licence by its first lines
kind() {
    case $(head -n 30 "$1" | tr -s '[:space:]' ' ') in
        *'Apache License'*'Version 2.0'*) echo Apache-2.0 ;;
        *'GNU AFFERO'*) echo AGPL ;;
        *'GNU LESSER'*) echo LGPL ;;
        *'GNU GENERAL'*) echo GPL ;;
        *'Permission is hereby granted'*) echo MIT ;;
        *'Redistribution and use in source'*) echo BSD ;;
        *) echo unknown ;;
    esac
}

: >"$scratch/kinds"
while IFS= read -r file; do
    printf '%s\t%s\n' "${file#"$root"/}" "$(kind "$file")" >>"$scratch/kinds"
done <"$scratch/texts"
[[ -s $scratch/texts ]] || finding high no-licence LICENSE 0 'the tree holds no licence text'

# One `grep` for all of them, not one for each: starting it takes longer than its work.
tr '\n' '\0' <"$scratch/manifests" | { xargs -0 -r grep -lZ '^\[package\]' -- || true; } >"$scratch/packages"
{ xargs -0 -r grep -LE '^(license|license-file|license\.workspace)\b' -- <"$scratch/packages" || true; } >"$scratch/silent"
while IFS= read -r file; do
    finding medium package-without-licence "$file" 0 'the package does not name its licence'
done <"$scratch/silent"
silent=$(wc -l <"$scratch/silent")
declared=$(($(tr -cd '\0' <"$scratch/packages" | wc -c) - silent))

files=$(wc -l <"$scratch/files")
tr '\n' '\0' <"$scratch/files" | xargs -0 -r grep -HEom1 -e 'SPDX-License-Identifier: [A-Za-z0-9.+ ()-]*[A-Za-z0-9.+)]' -- \
    >"$scratch/headers" || true
jq -n --argjson files "$files" --argjson declared "$declared" --argjson silent "$silent" \
    --rawfile kinds "$scratch/kinds" --rawfile headers "$scratch/headers" '
    def rows: split("\n") | map(select(. != ""));
    {files: $files, with_header: ($headers | rows | length),
     headers: ($headers | rows | map(sub("^.*SPDX-License-Identifier: "; "")) | group_by(.) | map({name: .[0], files: length})),
     texts: ($kinds | rows | map(split("\t") | {file: .[0], licence: .[1]})),
     packages_declared: $declared, packages_silent: $silent}' >"$scratch/figures"
texts=$(wc -l <"$scratch/texts")
headline="$texts licence text$( ((texts == 1)) || echo s); $declared packages name theirs, $silent do not"
finish licences "$headline" "$scratch/figures" \
    "$declared packages name a licence, $silent do not, $files source files. What must be fixed before a release?"
