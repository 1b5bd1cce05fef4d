#!/bin/sh
# Compiles the hashed requirement files. They carry no index address: the ones that the
# environment may set are taken away.
set -eu
uv="$1"
unset UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_INDEX UV_INDEX_URL UV_DEFAULT_INDEX 2>/dev/null || true
compile() {
  "$uv" pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --quiet "$@"
}
compile --extra server --extra openai --group build --output-file requirements/run.txt
compile --extra server --extra openai --group dev --output-file requirements/dev.txt
compile --extra server --output-file requirements/server.txt
"$uv" pip compile --group gen --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --quiet --output-file requirements/gen.txt
"$uv" pip compile --group build --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --quiet --output-file requirements/build.txt
