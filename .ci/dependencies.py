"""Checks what the lock file brings in, without a network.

Every crate must come from the registry or from this workspace, under a licence that
may be shipped, and none may be one that we decided against.
"""

import json
import re
import subprocess
import sys

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-1-Clause", "BSD-2-Clause",
    "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0",
    "Unicode-3.0", "Unlicense", "Zlib", "bzip2-1.0.6",
}
# Licence by hand where the manifest names only a file; with the reason.
BY_HAND: dict[str, str] = {}
BANNED = {
    "openssl-sys": "TLS is rustls: no system library, no second implementation",
    "native-tls": "TLS is rustls",
    "git2": "objects are read with gix; libgit2 would be a second reader of hostile input",
    "libgit2-sys": "as git2",
}
REGISTRY = "registry+"


def allowed(expression: str) -> bool:
    """An SPDX expression: true if it can be met with allowed licences alone."""
    tokens = re.findall(r"\(|\)|\bAND\b|\bOR\b|[^\s()]+", expression.replace("/", " OR "))
    words = tokens

    def either(at: int) -> tuple[bool, int]:
        ok, at = both(at)
        while at < len(words) and words[at] == "OR":
            other, at = both(at + 1)
            ok = ok or other
        return ok, at

    def both(at: int) -> tuple[bool, int]:
        ok, at = one(at)
        while at < len(words) and words[at] == "AND":
            other, at = one(at + 1)
            ok = ok and other
        return ok, at

    def one(at: int) -> tuple[bool, int]:
        if words[at] == "(":
            ok, at = either(at + 1)
            return ok, at + 1
        name, at = words[at], at + 1
        if at < len(words) and words[at] == "WITH":
            name, at = f"{name} WITH {words[at + 1]}", at + 2
        return name in ALLOWED, at

    return either(0)[0]


def main() -> int:
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--all-features"]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    members = set(metadata["workspace_members"])
    faults = []
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        if package["name"] in BANNED:
            faults.append(f"{name}: {BANNED[package['name']]}")
        if package["id"] in members:
            continue
        if not (package["source"] or "").startswith(REGISTRY):
            faults.append(f"{name}: comes from {package['source']}, not from the registry")
        licence = package["license"] or BY_HAND.get(package["name"])
        if not licence:
            faults.append(f"{name}: names no licence")
        elif not allowed(licence):
            faults.append(f"{name}: licence {licence} is not on the list")
    for fault in faults:
        print(fault)
    print(f"{len(metadata['packages'])} packages, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
