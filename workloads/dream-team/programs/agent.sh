# Shared by the team's shell programs: arguments, one question to a model with curl, one result file with jq.
# No process substitution here: /dev/fd is not everywhere.
# shellcheck shell=bash
set -euo pipefail
export LC_ALL=C.UTF-8

root='' out='' agent='' model=''
paths=()
extra=()

# usage: parse_arguments "$@"; unknown options with a value go to `extra`, the rest to `paths`
parse_arguments() {
    while (($#)); do
        case $1 in
            --root) root=${2%/}; shift 2 ;;
            --out) out=$2; shift 2 ;;
            --agent) agent=$2; shift 2 ;;
            --ask) model=$2; shift 2 ;;
            --*) extra+=("$1" "$2"); shift 2 ;;
            *) paths+=("$1"); shift ;;
        esac
    done
    if [[ -z $root || -z $out || -z $agent ]]; then
        echo "usage: ${0##*/} --root DIR --out FILE --agent NAME [--ask MODEL] [PATH…]" >&2
        exit 2
    fi
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    : >"$scratch/findings"
}

# usage: finding SEVERITY RULE FILE LINE TEXT
finding() {
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "${3#"$root"/}" "$4" "${5//$'\t'/ }" >>"$scratch/findings"
}

# The tree's files, without version control and what a build leaves.
tree_files() {
    find "$root" \( -name .git -o -name target -o -name node_modules -o -name .cache -o -name venv \
        -o -name __pycache__ \) -prune -o -type f "$@" -print
}

# usage: json_text NAME TEXT; sets NAME to the text as a JSON string, control characters as spaces
json_text() {
    local text=${2//\\/\\\\}
    text=${text//\"/\\\"}
    printf -v "$1" '"%s"' "${text//[[:cntrl:]]/ }"
}

# usage: ask QUESTION; leaves the reply, or an error in the same shape, in $scratch/reply
ask() {
    if [[ -z $model ]]; then
        echo null >"$scratch/reply"
        return
    fi
    local url="${OPENAI_BASE_URL%/}/chat/completions" model_json question_json
    # Without jq, which takes longer to start than to do this.
    json_text model_json "$model"
    json_text question_json "$1"
    printf '{"model": %s, "max_tokens": 24, "temperature": 0.7, "messages": [{"role": "user", "content": %s}]}' \
        "$model_json" "$question_json" >"$scratch/request"
    if ! curl -q -sS --max-time 1800 -o "$scratch/reply" -H 'Content-Type: application/json' \
        -H "Authorization: Bearer ${OPENAI_API_KEY:-}" --data-binary "@$scratch/request" "$url" \
        2>"$scratch/curl-error"; then
        jq -Rs '{error: {message: .}}' "$scratch/curl-error" >"$scratch/reply"
    fi
}

# usage: finish ANALYSIS HEADLINE FIGURES-FILE QUESTION
finish() {
    ask "$4"
    jq -n --arg agent "$agent" --arg analysis "$1" --arg headline "$2" --arg question "$4" --arg model "$model" \
        --slurpfile figures "$3" --slurpfile reply "$scratch/reply" --rawfile findings "$scratch/findings" '
        def findings: $findings | split("\n") | map(select(. != "") | split("\t")
            | {severity: .[0], rule: .[1], file: .[2], line: (.[3] | tonumber), text: .[4]});
        def rank: {high: 0, medium: 1, low: 2}[.severity] // 3;
        ($reply[0]) as $r
        | {schema: 1, agent: $agent, program: "shell", analysis: $analysis, headline: $headline,
           figures: ($figures[0] // {}), findings: (findings | sort_by(rank) | .[:40]), question: $question,
           model: (if $r == null then null else {
               model: ($r.model // $model), prompt: $question,
               text: (($r.choices[0].message.content // "") | gsub("^\\s+|\\s+$"; "")),
               prompt_tokens: ($r.usage.prompt_tokens // 0), completion_tokens: ($r.usage.completion_tokens // 0),
               error: (if $r.error then ($r.error.message // $r.error | tostring) else null end)} end)}' >"$out"
    echo "$2"
}
