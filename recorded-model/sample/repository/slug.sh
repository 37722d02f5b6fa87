#!/usr/bin/env bash
# slug.sh TITLE: prints the title as a slug: lower case, its words joined by single dashes.
set -eu
printf '%s\n' "$*" | tr 'A-Z ' 'a-z-'
