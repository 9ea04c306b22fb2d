"""What the document says in words and no schema can say.

Each rule below turns a request that the schemas allow into one that is allowed; what
is meant to be wrong ("negative" cases) goes out as it was made.
"""

import datetime
import string
import uuid

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

WORD = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12)

# Formats of our own that a string of them has to have.
schemathesis.openapi.format("git-ref", st.lists(WORD, min_size=1, max_size=3).map("/".join))
GLOB = st.one_of(WORD, st.sampled_from(["*", "**", "*.py", "[a-z]x", "{a,b}"]))
schemathesis.openapi.format("glob", st.lists(GLOB, min_size=1, max_size=4).map("/".join))

AHEAD = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)).isoformat()


@schemathesis.hook
def before_call(context, case, kwargs):
    meta = getattr(case, "meta", None)
    if meta is not None and meta.generation.mode is GenerationMode.NEGATIVE:
        return
    # A key that was used for another request is refused: that is what it is for.
    for name in list(case.headers or {}):
        if name.lower() == "idempotency-key":
            case.headers[name] = str(uuid.uuid4())
    query = case.query or {}
    # A cursor comes from the page before it.
    query.pop("cursor", None)
    # The first line does not come behind the last.
    if isinstance(query.get("lines"), str) and "-" in query["lines"]:
        query["lines"] = "-".join(sorted(query["lines"].split("-"), key=int))
    if isinstance(case.body, dict):
        body(case.operation.definition.raw.get("operationId"), case.body)


def body(operation, fields):
    # What ends, ends in the future.
    if fields.get("expires_at"):
        fields["expires_at"] = AHEAD
    # Ids in bodies name objects of the account; the seeded ones are in the paths.
    if operation in ("create_git_upload", "create_repository"):
        for name in ("project_id", "repository_id", "upload_id"):
            fields.pop(name, None)
    # The one branch that was ingested can be scanned.
    if operation == "create_scan" and fields.get("ref"):
        fields["ref"] = "main"
    # A dismissal, and nothing else, has a reason and an end.
    if operation in ("triage_finding", "triage_findings"):
        if fields.get("status") == "dismissed":
            fields["reason"] = "wont_fix"
        else:
            fields.pop("reason", None)
            fields.pop("expires_at", None)
