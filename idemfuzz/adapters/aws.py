"""Calls of boto3 and botocore become Effects, whatever answers them: AWS, a local server, `moto`, a `Stubber`.

Tapped is ``botocore.client.BaseClient._make_api_call``, which clients, resources, paginators, waiters and S3 transfers go
through: one call is one Effect, whatever retries and requests it takes.

*What counts as a call.* What was answered without an error: a `ClientError` says that the other side declined, and this is
how a condition shows itself. An operation that only asks (``GetItem``, ``ListObjectsV2``, ``ReceiveMessage``, ``AssumeRole``)
does not count, nor do metrics and log events. Of an upload in parts its completion counts.

*When two calls are one.* By the key that the caller gives (``ClientToken``, ``MessageDeduplicationId``, in each entry of a
batch); a token that botocore makes up where there is none unites nothing. A message to a FIFO queue without a key is known by
its body, as otherwise SQS would not take it. What sets or takes away a named thing (``PutObject``, ``PutItem``,
``DeleteMessage``, ``TagResource``) is one with its repetition, and so is an ``UpdateItem`` that neither adds nor appends.

It does not see aiobotocore, which has a door of its own, nor transfers by the AWS Common Runtime.
"""

from __future__ import annotations

import functools
import hashlib
import http
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import UUID

from idemfuzz.abc import Errors, Gate
from idemfuzz.adapters.contents import MASK, SECRET, TEXT_CHARACTERS_MAX, digest, octets, pattern, shown_body
from idemfuzz.adapters.idempotency import names_a_key
from idemfuzz.adapters.libraries import LibraryTap, Perform
from idemfuzz.model import Access, Effect, Fact, FactKind, FaultKind

__all__ = ["AwsTap", "asks", "same_as"]

_READING = re.compile(
    r"(?:Admin|Batch|Bulk|Transact)?(?:Check(?!In[A-Z])|Classify|Count|Describe|Detect|Discover|Download|Estimate|Filter|Get|Head"
    r"|List|Lookup|Poll|Preview|Query|Read|Receive|Recognize|Retrieve|Scan|Search|Select|Simulate|Translate|Validate)(?=[A-Z0-9]|$)"
)
_ASKING = frozenset(
    {
        *("AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "DecodeAuthorizationMessage"),
        *("InitiateAuth", "AdminInitiateAuth"),
        # What a service keeps for whoever watches: no part of the work.
        *("PutMetricData", "PutLogEvents", "CreateLogStream", "PutTraceSegments", "PutTelemetryRecords"),
    }
)
_COMPUTING = re.compile(r"(?:Encrypt|Decrypt|ReEncrypt|Sign|Verify|VerifyMac|Generate\w+)$")
"""What KMS does without changing anything."""
_PASSING = frozenset(
    {
        *("CreateMultipartUpload", "UploadPart", "UploadPartCopy", "AbortMultipartUpload"),
        "ChangeMessageVisibility",
    }
)
"""Changes nothing that stays: a part of a whole, a lease."""
_REPEATABLE = re.compile(
    r"(?:Admin|Batch)?(?:Put|Delete|Tag|Untag|Set|Update|Change|Enable|Disable|Remove|Attach|Detach|Associate|Disassociate"
    r"|Cancel|Stop|Terminate|Purge)(?=[A-Z]|$)"
)
_APPENDING = re.compile(r"(?:Batch)?Put(?:Record\w*|Events|Messages?|Feedback|File|Image)$")
_NAMED_ONCE = frozenset(
    {
        *("CreateBucket", "CopyObject", "CompleteMultipartUpload", "CreateQueue", "CreateTopic", "Subscribe"),
    }
)
"""Under one name, once more is the same."""
_NAMES_A_THING = re.compile(
    r"(?:Bucket|Key|Name|Names|Id|Ids|Arn|ARN|Arns|Url|Path|Identifier|Namespace)$|^name$"
)
_PLACES = ("Url", "Arn", "Bucket", "Name", "Source", "Id", "Identifier")
_OF_UPLOAD = frozenset({"UploadId"})
_SECRET_HERE = re.compile(r"^Plaintext$|SSECustomerKey$|^SecretBinary$")
_NAMES_A_SECRET = re.compile(r"(?:Id|Arn|ARN|Name)$")
# In an expression, names with a hyphen have a placeholder: a sign is arithmetic.
_ADDS = re.compile(r"\bADD\b|[-+]|\blist_append\b|\bREMOVE\b[^()]*\[", re.IGNORECASE)
_ITEM_KEYS = frozenset({"pk", "sk", "id", "key", "uuid", "hash", "range", "partition", "sort"})
_ITEM_KEY = re.compile(r"(?:^|[_-])(?:id|key|ID|KEY)$|(?<=[a-z])(?:Id|ID|Key)$")
_DEPTH_MAX = 8
_CHUNK_BYTES = 1 << 20


class AwsTap(LibraryTap):
    """Taps botocore's clients; imports nothing of it by itself."""

    name = "aws"

    def __init__(self) -> None:
        super().__init__({"botocore.client": _tap_clients, "s3transfer.tasks": _tap_transfers})


def _tap_clients(tap: AwsTap, module: ModuleType) -> None:
    def ask(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Perform | None:
        given = (*args, *kwargs.values())
        if len(given) != 3 or not isinstance(given[1], str) or not isinstance(given[2], Mapping):
            return None
        client, operation, params = given
        return functools.partial(_perform, client, operation, params)

    tap.tap(module.BaseClient, "_make_api_call", ask)


def _tap_transfers(tap: AwsTap, module: ModuleType) -> None:
    """A kill that ends a transfer's thread ends the transfer, too: whoever waits for it would wait for ever."""

    def ask(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Perform | None:
        return functools.partial(_end_together, args[0]) if args else None

    tap.tap(module.Task, "__call__", ask)


def _end_together(task: Any, gate: Gate, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except BaseException as error:
        transfer = task._transfer_coordinator
        transfer.set_exception(error, override=True)
        # Not by `announce_done`, which would tidy up at AWS first.
        transfer._done_event.set()
        raise


def _perform(
    client: Any, operation: str, params: Mapping[str, Any], gate: Gate, send: Callable[[], Any]
) -> Any:
    service = str(client.meta.service_model.service_name)
    # botocore writes tokens of its own into the parameters: what was given is looked at before.
    fields = {name: _plain(name, value) for name, value in params.items() if name not in _OF_UPLOAD}
    if params.get("Type") == "SecureString":
        fields["Value"] = MASK
    name = f"{service}.{operation}"
    reads = asks(operation, params, service)
    effect = Effect(
        label=f"aws.{name}",
        store="aws",
        access=Access.READ if reads else Access.DURABLE,
        detail=f"{name}{shown_body(json.dumps(fields, ensure_ascii=False, default=str))}",
        faults=(FaultKind.REFUSED,) if reads else (FaultKind.REFUSED, FaultKind.LOST),
    )
    errors = _errors(str(client.meta.endpoint_url))
    if reads or operation in _PASSING:
        return gate.perform(effect, send, errors=errors, describe=_outcome)
    once = same_as(operation, params)
    call = Fact(
        store="aws",
        kind=FactKind.HTTP,
        group=f"{name} {_place(params)}".rstrip(),
        fields=fields or {"operation": operation},
        once=None if once is None else f"{client.meta.region_name} {name} {once}",
    )
    return gate.perform(
        effect,
        send,
        errors=errors,
        describe=_outcome,
        call=lambda answer: None if _all_failed(answer) else call,
    )


def _errors(endpoint: str) -> Errors:
    def refused() -> BaseException:
        from botocore.exceptions import EndpointConnectionError

        return EndpointConnectionError(endpoint_url=endpoint)  # type: ignore[no-any-return]

    def lost() -> BaseException:
        from botocore.exceptions import ConnectionClosedError

        return ConnectionClosedError(endpoint_url=endpoint)  # type: ignore[no-any-return]

    return Errors(refused=refused, lost=lost)


def _outcome(answer: Any) -> str:
    told = answer.get("ResponseMetadata") if isinstance(answer, Mapping) else None
    status = told.get("HTTPStatusCode") if isinstance(told, Mapping) else None
    try:
        return f"{status} {http.HTTPStatus(status).phrase}" if isinstance(status, int) else "answered"
    except ValueError:
        return str(status)


def _all_failed(answer: Any) -> bool:
    """Whether a batch was answered, and none of it was done."""
    if not isinstance(answer, Mapping):
        return False
    return bool(answer.get("Failed")) and not answer.get("Successful")


def asks(operation: str, params: Mapping[str, Any], service: str = "") -> bool:
    """Whether an operation changes nothing."""
    if operation in _ASKING or _READING.match(operation):
        return True
    if service in ("kms", "") and _COMPUTING.match(operation):
        return True
    statement = params.get("Statement")
    return (
        operation == "ExecuteStatement"
        and isinstance(statement, str)
        and statement.lstrip()[:6].lower() == "select"
    )


# -- when two are one ----------------------------------------------------------------------------------------


def same_as(operation: str, params: Mapping[str, Any]) -> str | None:
    """What a call shares with those that are one with it; None where each one counts."""
    named = _named(params)
    key = _key(params)
    if key is not None:
        return f"{named} {key}"
    if str(params.get("QueueUrl", params.get("TopicArn", ""))).endswith(".fifo"):
        body = params.get("MessageBody", params.get("Message", params.get("Entries", "")))
        return f"{named} {_sha(body)}"
    if operation in _NAMED_ONCE or (operation == "StartExecution" and params.get("name")):
        return named
    if operation in _WRITES:
        return _items(_WRITES[operation](params))
    if not _REPEATABLE.match(operation) or _APPENDING.match(operation):
        return None
    # Whether two say the same is asked when they are compared, so what cannot be read unites nothing.
    return None if any(_is_stream(value) and not _goes_back(value) for value in params.values()) else named


def _key(params: Mapping[str, Any]) -> str | None:
    """The idempotency key at the top, or those of all entries of a batch: what lies deeper may be another thing's."""
    for name, value in params.items():
        if value and isinstance(value, str | int) and names_a_key(name):
            return str(value)
    for name, value in params.items():
        if name.endswith("Entries") and isinstance(value, list) and value:
            keys = [_key(each) if isinstance(each, Mapping) else None for each in value]
            return None if None in keys else " ".join(map(str, keys))
    return None


def _named(params: Mapping[str, Any]) -> str:
    """What a call is about, as told by the parameters that name a thing."""
    return " ".join(
        f"{name}={_sha(value) if _is_secret(name) else value}"
        for name, value in sorted(params.items())
        if isinstance(value, str | int | list) and _NAMES_A_THING.search(name) and name not in _OF_UPLOAD
    )


def _place(params: Mapping[str, Any]) -> str:
    """The queue, topic, table or bucket that is meant, without the account's number."""
    for ending in _PLACES:
        for name, value in params.items():
            if isinstance(value, str) and value and name.endswith(ending) and not _is_secret(name):
                place = re.split(r"[/:]", value)[-1] if ending in ("Url", "Arn") else value
                key = params.get("Key")
                within = f"/{key}" if ending == "Bucket" and isinstance(key, str) else ""
                return pattern(f"{place}{within}")
    return ""


_Write = tuple[str, object]
"""A table, and the key of an item in it."""


def _items(writes: Iterator[_Write | None]) -> str | None:
    try:
        known = list(writes)
    except (AttributeError, KeyError, TypeError):
        # These are no parameters of the operation, and botocore will say so.
        return None
    return None if not known or None in known else json.dumps(known, default=str, sort_keys=True)


def _put(params: Mapping[str, Any]) -> Iterator[_Write | None]:
    item = params.get("Item")
    yield (str(params.get("TableName")), _item_key(item)) if isinstance(item, Mapping) else None


def _delete(params: Mapping[str, Any]) -> Iterator[_Write | None]:
    yield str(params.get("TableName")), params.get("Key")


def _update(params: Mapping[str, Any]) -> Iterator[_Write | None]:
    legacy = params.get("AttributeUpdates")
    changes = legacy.values() if isinstance(legacy, Mapping) else ()
    adds = any(isinstance(each, Mapping) and each.get("Action") == "ADD" for each in changes)
    repeatable = not adds and not _ADDS.search(str(params.get("UpdateExpression", "")))
    yield (str(params.get("TableName")), params.get("Key")) if repeatable else None


def _batch(params: Mapping[str, Any]) -> Iterator[_Write | None]:
    for table, requests in params.get("RequestItems", {}).items():
        for request in requests:
            for kind, inner in request.items():
                yield from (_put if kind == "PutRequest" else _delete)({"TableName": table, **inner})


def _transaction(params: Mapping[str, Any]) -> Iterator[_Write | None]:
    kinds = {"Put": _put, "Delete": _delete, "Update": _update, "ConditionCheck": _delete}
    for each in params.get("TransactItems", ()):
        for kind, inner in each.items():
            yield from kinds[kind](inner)


_WRITES: Mapping[str, Callable[[Mapping[str, Any]], Iterator[_Write | None]]] = {
    "PutItem": _put,
    "DeleteItem": _delete,
    "UpdateItem": _update,
    "BatchWriteItem": _batch,
    "TransactWriteItems": _transaction,
}


def _item_key(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """What seems to be the key of an item: the table knows, and the call does not say."""
    exact = [name for name in item if re.sub(r"[_-]|key$", "", name.lower()) in _ITEM_KEYS or name == "key"]
    names = exact or [name for name in item if _ITEM_KEY.search(name)][:1] or list(item)[:1]
    return {name: item[name] for name in names}


# -- parameters, made plain ----------------------------------------------------------------------------------


def _plain(name: str, value: Any, depth: int = 0) -> Any:
    """``value`` as plain data: secrets masked, JSON in texts read, bytes and streams as digests."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        return MASK if _is_secret(name) else _text(octets(value) or b"", depth)
    if value is None or isinstance(value, bool | int | float | Decimal | UUID | date | time | timedelta):
        return value
    if depth >= _DEPTH_MAX:
        return f"<{type(value).__qualname__}>"
    if isinstance(value, Mapping):
        return {str(each): _plain(str(each), inner, depth + 1) for each, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, inner, depth + 1) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(name, inner, depth + 1) for inner in value), key=repr)
    if type(value).__module__.startswith("boto3.dynamodb"):
        return _expression(name, value, depth)
    if _is_stream(value) and _goes_back(value):
        return _stream(value)
    return f"<{type(value).__qualname__}>"


def _is_secret(name: str) -> bool:
    return bool(_SECRET_HERE.search(name) or (SECRET.search(name) and not _NAMES_A_SECRET.search(name)))


def _text(data: bytes, depth: int) -> Any:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return digest(data)
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _plain("", json.loads(text), depth + 1)
        except (ValueError, RecursionError):
            pass
    return text if len(text) <= TEXT_CHARACTERS_MAX else digest(data)


def _expression(name: str, value: Any, depth: int) -> Any:
    """A condition of boto3's (``Attr("state").eq("new")``), an attribute's name in it, or its Binary."""
    if hasattr(value, "get_expression"):
        told = value.get_expression()
        return [str(told["operator"]), *(_plain(name, each, depth + 1) for each in told["values"])]
    return _plain(name, getattr(value, "name", getattr(value, "value", None)), depth + 1)


def _is_stream(value: Any) -> bool:
    return callable(getattr(value, "read", None))


def _goes_back(value: Any) -> bool:
    """Whether a stream can be put back where it stands."""
    try:
        return bool(value.seekable() if hasattr(value, "seekable") else hasattr(value, "seek"))
    except ValueError:
        # It is closed: botocore will say so.
        return False


def _stream(value: Any) -> str:
    """A digest of what is left of a stream, which stands where it stood afterwards."""
    began = value.tell()
    told, size = hashlib.sha256(), 0
    try:
        while chunk := value.read(_CHUNK_BYTES):
            data = octets(chunk) or b""
            told.update(data)
            size += len(data)
    finally:
        value.seek(began)
    return f"<{size} bytes, sha256 {told.hexdigest()[:16]}>"


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str, sort_keys=True).encode()).hexdigest()[:16]
