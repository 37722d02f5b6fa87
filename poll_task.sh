#!/usr/bin/env bash
# Says how a task of code-workers stands. Needs bash and curl alone, and stands on its own, as send_task.sh.
set -uo pipefail
LC_ALL=C # text is bytes here, and goes through as it is

usage='usage: poll_task.sh ID
Prints how the task stands, and after an empty line the agent'\''s last words. FORTRESS_API_KEY and COORDINATOR_URL
come from the environment, .env here, or ~/.config/code-workers/.env.
Exit codes: 0 succeeded · 1 failed or lost · 2 usage · 3 timed out · 4 cancelled · 5 coordinator not reachable ·
6 refused · 7 not finished yet'

#--- the same in send_task.sh and poll_task.sh ---------------------------------------------------------------
die() { # EXIT_CODE TEXT
    printf '%s: %s\n' "${0##*/}" "$2" >&2
    exit "$1"
}

here='^(unix://.*|(http://)?(127\.[0-9.]+|localhost|\[::1\])(:[0-9]+)?/?)$' # addresses of this machine

setting() { # NAME: its value from the environment, else from a .env file, which is read and never run
    local file line value
    [ -z "${!1:-}" ] || { printf %s "${!1}" && return; }
    for file in .env "${XDG_CONFIG_HOME:-${HOME:-}/.config}/code-workers/.env"; do
        [[ -f $file && -r $file ]] || continue
        while IFS= read -r line || [ -n "$line" ]; do
            [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=[[:space:]]*(.*)$ ]] || continue
            value=${BASH_REMATCH[2]%$'\r'}
            case $value in
                \"*\"* | \'*\'*) value=${value:1} value=${value%%"${BASH_REMATCH[2]:0:1}"*} ;;
                *) value=${value%%[[:space:]]*} ;;
            esac
            [ -n "$value" ] || continue
            # A repository may have brought the .env here: it must not choose where the key goes.
            [[ $file != .env || $1 != COORDINATOR_* || $value =~ $here ]] ||
                die 2 "$1 in .env of this folder names another machine: put it into the environment or ~/.config/code-workers/.env"
            printf %s "$value" && return
        done <"$file"
    done
}

encode() { # TEXT: as one part of a URL
    local text=$1 at char
    for ((at = 0; at < ${#text}; at++)); do
        char=${text:at:1}
        case $char in
            [A-Za-z0-9._-]) printf %s "$char" ;;
            *) printf '%%%02X' "$(($(printf %d "'$char") & 255))" ;;
        esac
    done
}

call() { # SECONDS PATH [CURL_OPTION...]: asks the coordinator; sets $status (000: no whole answer) and $body
    local seconds=$1 path=$2 answer
    shift 2
    # The key goes through a pipe: what stands in an argument list, every user of the machine can read.
    answer=$(curl -q --silent --show-error --noproxy '*' --path-as-is --connect-timeout 5 --max-time "$seconds" \
        --config <(printf 'header = "Authorization: Bearer %s"\n' "$key") --header 'Accept: text/plain' \
        --write-out '\n%{http_code}' "${where[@]}" "$@" "$base$path" 2>&1 | tr -d '\000') || answer+=$'\n000' # broke off
    status=${answer##*$'\n'} body=${answer%$'\n'*} body=${body%$'\n'}
}

refused() { # tells the answer that is no success, and ends
    local error
    error=$(field error) error=${error:-$body}
    case $status in
        000) die 5 "$url is not reachable: ${body%%$'\n'*}"$'\n''start it with: code-workers up (or name its address in COORDINATOR_URL)' ;;
        401 | 403) die 6 "$error"$'\n''FORTRESS_API_KEY has to be the key that the coordinator runs with' ;;
        4??) die 6 "$error" ;;
        *) die 5 "$error" ;;
    esac
}

field() { # NAME: its value in the lines before the first empty one
    local line
    while IFS= read -r line && [ -n "$line" ]; do
        [[ $line != "$1: "* ]] || { printf %s "${line#"$1: "}" && return; }
    done <<<"$body"
}

show() { # prints stdin; to a terminal without what could steer it
    if [ -t 1 ]; then tr -d '\001-\010\013-\037\177' | sed 's/\xc2[\x80-\x9f]//g'; else cat; fi
}

exit_code() { # STATE
    case $1 in
        succeeded) echo 0 ;; failed | lost) echo 1 ;; timed_out) echo 3 ;; cancelled) echo 4 ;; *) echo 7 ;;
    esac
}

connect() { # sets $url, $base, $where and $key
    local bind
    command -v curl >/dev/null || die 5 'curl is missing; install it (apt-get install curl)'
    url=$(setting COORDINATOR_URL) || exit
    bind=$(setting COORDINATOR_BIND) || exit
    key=$(setting FORTRESS_API_KEY)
    url=${url:-http://${bind:-127.0.0.1:7222}} where=()
    case $url in
        unix:///*) base=http://localhost where=(--unix-socket "${url#unix://}") ;;
        http://?*) base=${url%/} ;;
        *) die 2 "COORDINATOR_URL is $url; it has to be http://HOST:PORT or unix:///PATH" ;;
    esac
    [ -n "$key" ] || die 6 'no owner'\''s key: set FORTRESS_API_KEY, or start code-workers up once, which makes it'
    [[ $key != *[[:cntrl:]]* ]] || die 6 'FORTRESS_API_KEY holds a control character'
    key=${key//\\/\\\\} key=${key//\"/\\\"}
}
#-------------------------------------------------------------------------------------------------------------

case ${1:-} in --help | -h) echo "$usage" && exit 0 ;; esac
[[ $# -eq 1 && -n $1 ]] || die 2 "a task's id is wanted"$'\n'"$usage"
connect
call 30 "/tasks/$(encode "$1")"
[[ $status == 2?? ]] || refused
printf '%s\n' "$body" | show
exit "$(exit_code "$(field state)")"
