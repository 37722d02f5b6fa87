#!/usr/bin/env bash
# Checks slug.sh. Exits 1 when a case fails.
set -u
cd "$(dirname "$0")" || exit 1
failed=0
expect() {
    got=$(./slug.sh "$1")
    if [ "$got" = "$2" ]; then
        printf 'ok    %s\n' "$1"
    else
        printf 'FAIL  %s: %s, not %s\n' "$1" "$got" "$2"
        failed=1
    fi
}
expect 'Hello World' 'hello-world'
expect 'Two  spaces' 'two-spaces'
expect '  What? Really!  ' 'what-really'
exit "$failed"
