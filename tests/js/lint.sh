#!/usr/bin/env bash
# eslint over dgcl_nb/static and the tests here, where node and npm are installed; elsewhere a sentence (an error where CI=true)
set -u
cd "$(dirname "$0")/../.."
here=tests/js

skip() {
    echo "JavaScript is not linted: $1"
    [[ "${CI:-}" == true ]] && exit 1
    exit 0
}

command -v node >/dev/null || skip "node is not installed (on Debian: apt-get install nodejs npm)"
if [[ ! -x $here/node_modules/.bin/eslint || $here/package-lock.json -nt $here/node_modules/.package-lock.json ]]; then
    command -v npm >/dev/null || skip "npm is not installed (on Debian: apt-get install npm)"
    timeout 180 npm ci --prefix $here --no-audit --no-fund --loglevel=error || skip "npm could not install eslint"
fi
$here/node_modules/.bin/eslint --config $here/eslint.config.mjs dgcl_nb/static $here && echo "eslint: all files in order"
