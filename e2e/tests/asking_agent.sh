#!/bin/bash
# An agent of one request, with nothing but bash: what the model answers is its work.
url=${ANTHROPIC_BASE_URL#http://}
body='{"model":"claude-sonnet-4-5","max_tokens":64,"messages":[{"role":"user","content":"go"}]}'
exec 3<>"/dev/tcp/${url%%:*}/${url##*:}"
printf 'POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nx-api-key: %s\r\nanthropic-version: 2023-06-01\r\ncontent-type: application/json\r\ncontent-length: %s\r\n\r\n%s' \
    "$ANTHROPIC_API_KEY" "${#body}" "$body" >&3
while IFS= read -r line <&3 && line=${line%$'\r'} && [ -n "$line" ]; do
    case $line in content-length:*) length=${line#*: } ;; esac
done
IFS= read -r -N "$length" answer <&3
printf '%s\n' "$answer" >answer.txt
