"""What the document says in words and no schema can say.

Each rule below turns a request that the schemas allow into one that is allowed; what
is meant to be wrong ("negative" cases) goes out as it was made.
"""

import base64
import datetime
import io
import string
import tarfile
import uuid

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

WORD = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12)

# Formats of our own that a string of them has to have.
schemathesis.openapi.format("git-ref", st.lists(WORD, min_size=1, max_size=3).map("/".join))
GLOB = st.one_of(WORD, st.sampled_from(["*", "**", "*.py", "[a-z]x", "{a,b}"]))
schemathesis.openapi.format(
    "ssh-public-key",
    st.binary(min_size=32, max_size=32).map(
        lambda key: "ssh-ed25519 "
        + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + key).decode()
    ),
)
schemathesis.openapi.format("glob", st.lists(GLOB, min_size=1, max_size=4).map("/".join))

AHEAD = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)).isoformat()


DAY = st.dates(datetime.date(2026, 1, 2), datetime.date(2026, 6, 1)).map(str)
schemathesis.openapi.format("day-or-time", DAY)


def tar():
    """An archive with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("README.md")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"text"))
    return out.getvalue()


TAR = tar()


@schemathesis.hook
def before_call(context, case, kwargs):
    # Waiting for a minute is tested elsewhere.
    for name, value in list((case.query or {}).items()):
        if name == "wait" and str(value).isdigit() and 1 < int(value) <= 60:
            case.query[name] = 1
    meta = getattr(case, "meta", None)
    if meta is not None and meta.generation.mode is GenerationMode.NEGATIVE:
        return
    # A key that was used for another request is refused: that is what it is for.
    for name in list(case.headers or {}):
        if name.lower() == "idempotency-key":
            case.headers[name] = str(uuid.uuid4())
    query = case.query or {}
    # A link hands on what an answer holds, also a null (an upload has no scan yet). A
    # query knows no null; a parameter that has no value is left out.
    for name in [name for name, value in query.items() if value in (None, "None")]:
        del query[name]
    # A cursor comes from the page before it.
    query.pop("cursor", None)
    # The first line does not come behind the last.
    if isinstance(query.get("lines"), str) and "-" in query["lines"]:
        query["lines"] = "-".join(sorted(query["lines"].split("-"), key=int))
    # A period ends behind its begin.
    if "from" in query and "to" in query:
        query["from"], query["to"] = sorted([str(query["from"]), str(query["to"])])
        if query["from"] == query["to"]:
            del query["to"]
    if isinstance(case.body, dict):
        case.body = plain(case.body)
        body(case.operation.definition.raw.get("operationId"), case.body)


def plain(value):
    """A whole number is written without a fraction, and no list names a thing twice."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        kept = []
        for inner in map(plain, value):
            if not any(inner == one or same_id(inner, one) for one in kept):
                kept.append(inner)
        return kept
    return value


def same_id(one, other):
    return isinstance(one, dict) and isinstance(other, dict) and "id" in one and one["id"] == other.get("id")


def body(operation, fields):
    # What ends, ends in the future.
    if fields.get("expires_at"):
        fields["expires_at"] = AHEAD
    # A cursor comes from the answer before.
    if operation == "cleanup":
        fields.pop("cursor", None)
    # Ids in bodies name objects of the account; the seeded ones are in the paths.
    if operation in ("create_git_upload", "create_repository"):
        for name in ("project_id", "repository_id", "upload_id"):
            fields.pop(name, None)
    # An archive is an archive.
    if "file" in fields:
        fields["file"] = TAR
        # A field of a form is there or not; it has no null.
        for name in [name for name, value in fields.items() if value is None]:
            del fields[name]
    # A URL leads to a name that never resolves (RFC 6761), and each source has fields of its own.
    if operation in ("create_webhook", "update_webhook"):
        fields["url"] = "https://receiver.invalid/hook"
    if operation == "create_repository" and "source_type" in fields and "file" not in fields:
        if fields["source_type"] == "git_upload":
            for name in ("source_url", "ref", "credentials", "history", "scan"):
                fields.pop(name, None)
        else:
            fields["source_url"] = "https://code.invalid/shop"
        if fields["source_type"] == "archive":
            fields.pop("ref", None)
            fields.pop("history", None)
    # Only the branch that was ingested can be scanned.
    if operation == "create_scan":
        fields.pop("ref", None)
    # Findings are named in one of two ways.
    if operation == "triage_findings":
        if fields.get("ids"):
            fields.pop("filter", None)
        else:
            fields.pop("ids", None)
            fields["filter"] = {"severity": ["info"]}
    # A dismissal, and nothing else, has a reason and an end.
    if operation in ("triage_finding", "triage_findings"):
        if fields.get("status") == "dismissed":
            fields["reason"] = "wont_fix"
        else:
            fields.pop("reason", None)
            fields.pop("expires_at", None)
