#!/usr/bin/env python3
"""Checks the files that GitHub reads, and the address of the project.

- workflows and issue forms are YAML with the keys that GitHub needs
- a workflow has read-only permissions, an exact version for each action, and steps in valid shell
- each script that a step runs exists and is executable
- workflows and packaging/Dockerfile name the same version of the Rust image
- every `github.com/…/mtbox` in the tree is the `repository` of Cargo.toml

Without PyYAML the checks of YAML are skipped.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

try:
    import yaml
except ImportError:
    yaml = None

ROOT = pathlib.Path(__file__).resolve().parent.parent
ACTION = re.compile(r"[\w.-]+/[\w./-]+@v\d+\.\d+\.\d+")
IMAGE = re.compile(r"\brust:(\d+\.\d+)")
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/mtbox\b")


def workflow(text):
    """The faults of a workflow."""
    try:
        whole = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        return [f"not YAML: {fault}"]
    # YAML 1.1 reads the key `on` as a boolean.
    missing = [key for key in ("name", True, "permissions", "jobs") if key not in whole]
    if missing:
        return [f"no {'on' if key is True else key}" for key in missing]
    faults = []
    if whole["permissions"] != {"contents": "read"}:
        faults.append("permissions: must be `contents: read`; a job may add to it")
    for name, job in whole["jobs"].items():
        if "uses" not in job and "timeout-minutes" not in job:
            faults.append(f"{name}: no timeout-minutes")
        for step in [job, *job.get("steps", [])]:
            faults += [f"{name}: {fault}" for fault in uses(step) + runs(step)]
    return faults


def uses(step):
    """The faults of the action or workflow that a step or job calls."""
    called = step.get("uses")
    if called is None:
        return []
    if called.startswith("./"):
        return [] if (ROOT / called).is_file() else [f"{called} does not exist"]
    return [] if ACTION.fullmatch(called) else [f"{called}: no exact version"]


def runs(step):
    """The faults of the shell commands of a step."""
    script = step.get("run")
    if script is None:
        return []
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    if checked.returncode:
        return [checked.stderr.strip()]
    faults = []
    for line in script.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["bash"]:
            path, needs = words[1], os.R_OK
        else:
            path, needs = "".join(words[:1]), os.X_OK
        if "/" in path and not ((ROOT / path).is_file() and os.access(ROOT / path, needs)):
            faults.append(f"{path} cannot be run")
    return faults


def form(text):
    """The faults of an issue form."""
    try:
        whole = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        return [f"not YAML: {fault}"]
    faults = [f"no {key}" for key in ("name", "description", "body") if not whole.get(key)]
    seen = set()
    for field in whole.get("body") or []:
        kind, key = field.get("type"), field.get("id")
        if kind not in ("markdown", "textarea", "input", "dropdown", "checkboxes"):
            faults.append(f"{key}: unknown type {kind}")
        elif kind != "markdown" and (not key or key in seen or "label" not in field["attributes"]):
            faults.append(f"{key}: needs an id of its own and a label")
        seen.add(key)
    return faults


def addresses(text, repository):
    """The addresses in a text that are not that of the project."""
    return sorted({found for found in ADDRESS.findall(text) if found != repository})


def prove():
    """Each check must find the fault of a bad example."""
    head = "name: x\non: push\npermissions: {contents: read}\njobs:\n  a:\n"
    steps = head + "    timeout-minutes: 1\n    steps:\n"
    bad = [
        "a: [",
        "name: x\non: push\njobs: {}\n",
        head.replace("read", "write") + "    timeout-minutes: 1\n",
        head + "    steps: []\n",
        head + "    uses: ./.github/workflows/none.yml\n",
        steps + "      - uses: actions/checkout@v5\n",
        steps + "      - run: bash .ci/none\n",
        steps + "      - run: cross/none.sh all\n",
        steps + "      - run: cross/targets.tsv\n",
        steps + "      - run: if true\n",
    ]
    for text in bad if yaml else []:
        assert len(workflow(text)) == 1, (text, workflow(text))
    entry = "body: [{type: input, id: a, attributes: {label: b}}]\n"
    assert not yaml or form("name: x\ndescription: y\n" + entry) == []
    for text in ["a: [", "name: x\n" + entry, "name: x\ndescription: y\nbody: [{type: input}]\n"]:
        assert not yaml or len(form(text)) == 1, (text, form(text))
    address = "https://github.com/{}/mtbox"
    ours, other = address.format("a"), address.format("b")
    assert addresses(f"{ours}/releases {other}.git", ours) == [other]


def main():
    prove()
    faults = []
    workflows = sorted(ROOT.glob(".github/workflows/*.yml"))
    forms = sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml"))
    forms = [path for path in forms if path.stem != "config"]
    assert workflows and forms
    for check, paths in [(workflow, workflows), (form, forms)] if yaml else []:
        for path in paths:
            faults += [f"{path.relative_to(ROOT)}: {fault}" for fault in check(path.read_text())]
    recipes = [path.read_text() for path in [*workflows, ROOT / "packaging/Dockerfile"]]
    versions = sorted({version for text in recipes for version in IMAGE.findall(text)})
    if len(versions) != 1:
        faults.append(f"workflows and packaging/Dockerfile: images of Rust {', '.join(versions)}")
    if not yaml:
        print("skipped: YAML, because PyYAML is not installed")
    repository = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["repository"]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        try:
            text = (ROOT / name).read_text()
        except (OSError, UnicodeDecodeError):
            continue
        faults += [f"{name}: {found} is not {repository}" for found in addresses(text, repository)]
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
