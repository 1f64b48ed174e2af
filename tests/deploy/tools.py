"""What tests/deploy asks of tools that speak Python; prints one line of JSON, or says on stderr what is wrong.

Usage: tools.py yaml FILE                      the documents of a YAML file
       tools.py chart FOLDER VALUES            Helm's lint and rendering of a chart with values (JSON), each manifest
                                                checked against the schemas of the oldest and the newest Kubernetes
       tools.py compose FILE                   the file against the schema of the Compose specification
"""
import json
import subprocess
import sys

import yaml

# The oldest that Chart.yaml lets in, and the newest whose schemas there are.
KUBERNETES = ["1.30.0", "1.37.0"]
# Kinds of others, of which no schema is published with Kubernetes.
FOREIGN = ["monitoring.coreos.com/v1"]


class Strict(yaml.SafeLoader):
    """YAML in which a key that stands twice is a mistake, and a time is a text."""


def mapping(loader, node):
    seen = set()
    for key, _ in node.value:
        if key.value != "<<" and key.value in seen:
            raise SystemExit(f"{key.value} stands twice{key.start_mark}")
        seen.add(key.value)
    loader.flatten_mapping(node)
    return {loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value}


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
Strict.yaml_implicit_resolvers = {
    first: [(tag, shape) for tag, shape in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in Strict.yaml_implicit_resolvers.items()
}


def documents(text):
    return [document for document in yaml.load_all(text, Strict) if document is not None]


def chart(folder, values):
    import helm_python as helm
    import kubernetes_validate

    report = helm.lint(folder, values, strict=True, namespace="plant")
    # 1 is advice.
    faults = report["errors"] + [f"{m['path']}: {m['error']}" for m in report["messages"] if m["severity"] > 1]
    if faults:
        raise SystemExit("helm lint: " + "; ".join(faults))
    with helm.Chart.load(folder) as loaded:
        rendered = loaded.render(values, name="works", namespace="plant")
    manifests = []
    for path, text in sorted(rendered.items()):
        if path.endswith(".txt"):
            continue
        for manifest in documents(text):
            if manifest["apiVersion"] not in FOREIGN:
                for version in KUBERNETES:
                    try:
                        kubernetes_validate.validate(manifest, version, strict=True)
                    except kubernetes_validate.ValidationError as error:
                        raise SystemExit(f"{path}: {error.message} at {list(error.path)} (Kubernetes {version})")
            manifests.append(manifest)
    return manifests


def compose(file):
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file]
    done = subprocess.run(check, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return True


def main():
    what, file, *rest = sys.argv[1:]
    if what == "yaml":
        with open(file, encoding="utf-8") as text:
            answer = documents(text.read())
    elif what == "chart":
        answer = chart(file, json.loads(rest[0]))
    elif what == "compose":
        answer = compose(file)
    else:
        raise SystemExit(__doc__)
    print(json.dumps(answer))


main()
