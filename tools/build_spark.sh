#!/bin/sh
# Makes raf_lite/export/spark.js.gz, the splat renderer of the HTML player, and spark.LICENSE: Spark and three.js from npm, joined
# into one module by esbuild. Needs node and npm; only to move to other versions, since the result is kept in the repository.
set -eu

target="$(cd "$(dirname "$0")/../raf_lite/export" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --no-audit --no-fund --ignore-scripts @sparkjsdev/spark@2.2.0 three@0.187.0 fflate@0.8.2 esbuild@0.28.2
cat >entry.js <<'JS'
export { Color, Matrix4, PerspectiveCamera, Quaternion, Scene, Vector3, WebGLRenderer } from "three";
export { PackedSplats, SparkRenderer, SplatMesh } from "@sparkjsdev/spark";
JS
node_modules/.bin/esbuild entry.js --bundle --minify --format=esm --legal-comments=inline --outfile=spark.js
gzip -9 -n -c spark.js >"$target/spark.js.gz"
for name in @sparkjsdev/spark three fflate; do
    version="$(node -p "require('./node_modules/$name/package.json').version")"
    printf '%s %s\n\n' "$name" "$version"
    cat "node_modules/$name/LICENSE"
    printf '\n\n'
done >"$target/spark.LICENSE"
ls -l "$target"/spark.*
