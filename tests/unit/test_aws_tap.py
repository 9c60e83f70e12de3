"""The AWS tap: what a call of botocore is, whatever answers it; counted once, failing in the library's own terms."""

from __future__ import annotations

import io
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sinks

from idemfuzz import check
from idemfuzz.abc import JobCall, Options
from idemfuzz.adapters.aws import AwsTap
from idemfuzz.adapters.http import HttpTap
from idemfuzz.engine import Trial, TrialGate, TrialResult
from idemfuzz.engine.clock import Clock
from idemfuzz.model import Access, Event, EventKind, Fact, Fault, FaultKind, Plan, Point, Side

boto3 = pytest.importorskip("boto3")
pytest.importorskip("moto")

QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/orders"
KEYS = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": "us-east-1"}


@pytest.fixture
def taps() -> Iterator[None]:
    """Both, as in a search."""
    gate = TrialGate()
    taps = (HttpTap(), AwsTap())
    for tap in taps:
        tap.attach(gate, {})
    yield
    for tap in reversed(taps):
        tap.detach()


@pytest.fixture(scope="module")
def client() -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = boto3.client(service, **KEYS)
        return made[service]

    return client


@pytest.fixture
def cloud() -> Iterator[Callable[[str], Any]]:
    """Clients that moto answers."""
    with sinks.cloud() as client:
        yield client


@pytest.fixture
def yes() -> Iterator[None]:
    """Every call is answered, whatever it says."""

    def answer(self: Any, operation: str, params: Any) -> dict[str, Any]:
        return {"ResponseMetadata": {"HTTPStatusCode": 200}}

    with patch("botocore.client.BaseClient._make_api_call", answer):
        yield


def deliver(job: Callable[[], object], *faults: Fault) -> TrialResult:
    """Run ``job`` as a Plan says; its own exceptions end in the History."""
    trial = Trial(
        Plan(faults=faults), Options(attempts=1), (), Clock(lambda: None, lambda seconds, polls: None)
    )
    try:
        trial.deliver(JobCall("job", lambda identity, delivery: job() and None))
    except Exception:
        pass
    return trial.result()


def effects(result: TrialResult) -> list[Event]:
    return [event for event in result.history if event.kind is EventKind.EFFECT]


def calls(client: Any, operation: str, *params: dict[str, Any]) -> list[Fact]:
    """What counts when ``operation`` is called with each of ``params``."""

    def job() -> None:
        for each in params:
            client._make_api_call(operation, each)

    return list(deliver(job).calls)


def one(client: Any, operation: str, *params: dict[str, Any]) -> bool:
    """Whether the calls are one, but for their contents."""
    facts = calls(client, operation, *params)
    assert len(facts) == len(params)
    return len({fact.once for fact in facts}) == 1 and facts[0].once is not None


def test_a_call_is_one_effect_and_one_call(cloud: Callable[[str], Any], taps: None) -> None:
    """Goal: what is asked for is told. Method: a message to moto's queue, with a secret in it."""
    body = '{"order": 7, "password": "hunter2"}'
    result = deliver(lambda: cloud("sqs").send_message(QueueUrl=QUEUE, MessageBody=body))
    (event,) = effects(result)
    (call,) = result.calls
    assert event.effect is not None
    assert (event.effect.label, event.effect.access) == ("aws.sqs.SendMessage", Access.DURABLE)
    assert event.effect.detail.startswith('sqs.SendMessage {"QueueUrl": ')
    assert event.outcome == "200 OK"
    assert call.group == "sqs.SendMessage orders"
    assert dict(call.fields) == {"QueueUrl": QUEUE, "MessageBody": {"order": 7, "password": "***"}}
    assert call.once is None
    assert "hunter2" not in f"{event}{call}"


def test_requests_and_retries_are_part_of_it(taps: None) -> None:
    """Goal: nothing counts twice. Method: a client whose address nobody listens at, which it tries several times."""
    sqs = boto3.client(
        "sqs",
        endpoint_url="http://127.0.0.1:9",
        config=boto3.session.Config(retries={"max_attempts": 1, "mode": "standard"}),
        **KEYS,
    )
    result = deliver(lambda: sqs.send_message(QueueUrl="http://127.0.0.1:9/1/orders", MessageBody="x"))
    assert [event.effect.label for event in effects(result) if event.effect] == ["aws.sqs.SendMessage"]
    assert result.calls == ()


@pytest.mark.parametrize(
    ("service", "operation", "reads"),
    [
        ("dynamodb", "GetItem", True),
        ("dynamodb", "Query", True),
        ("dynamodb", "Scan", True),
        ("dynamodb", "BatchGetItem", True),
        ("dynamodb", "TransactGetItems", True),
        ("s3", "ListObjectsV2", True),
        ("s3", "HeadObject", True),
        ("sqs", "ReceiveMessage", True),
        ("sts", "AssumeRole", True),
        ("kms", "GenerateDataKey", True),
        ("cloudwatch", "PutMetricData", True),
        ("sqs", "SendMessage", False),
        ("ses", "VerifyEmailIdentity", False),
        ("license-manager", "CheckInLicense", False),
        ("license-manager", "CheckoutLicense", False),
    ],
)
def test_only_to_ask_is_no_call(
    service: str, operation: str, reads: bool, yes: None, taps: None, client: Callable[[str], Any]
) -> None:
    result = deliver(lambda: client(service)._make_api_call(operation, {"Name": "x"}))
    (event,) = effects(result)
    assert event.effect is not None
    assert (event.effect.access is Access.READ) is reads
    assert len(result.calls) == (0 if reads else 1)


def test_partiql_reads_by_its_statement(yes: None, taps: None, client: Callable[[str], Any]) -> None:
    dynamodb = client("dynamodb")
    assert not calls(dynamodb, "ExecuteStatement", {"Statement": " SELECT * FROM users"})
    assert calls(dynamodb, "ExecuteStatement", {"Statement": "INSERT INTO users VALUE {'pk': '1'}"})


@pytest.mark.parametrize(
    ("kind", "error", "arrives"),
    [(FaultKind.REFUSED, "EndpointConnectionError", 0), (FaultKind.LOST, "ConnectionClosedError", 1)],
)
def test_faults_are_botocores_own(
    kind: FaultKind, error: str, arrives: int, cloud: Callable[[str], Any], taps: None
) -> None:
    from botocore import exceptions

    caught: list[BaseException] = []
    sqs = cloud("sqs")

    def job() -> None:
        try:
            sqs.send_message(QueueUrl=QUEUE, MessageBody="x")
        except getattr(exceptions, error) as raised:
            caught.append(raised)

    side = Side.AFTER if kind is FaultKind.LOST else Side.BEFORE
    result = deliver(job, Fault(kind, Point(1, 1, "aws.sqs.SendMessage", 1), side))
    assert len(caught) == 1
    assert len(result.calls) == arrives
    arrived = sqs.receive_message(QueueUrl=QUEUE, MaxNumberOfMessages=10).get("Messages", [])
    assert len(arrived) == arrives


def test_what_is_declined_does_not_count(cloud: Callable[[str], Any], taps: None) -> None:
    """Goal: a condition guards. Method: the same conditional put twice; and a batch of which nothing was done."""
    from botocore.exceptions import ClientError

    item = {
        "TableName": "users",
        "Item": {"pk": {"S": "7"}},
        "ConditionExpression": "attribute_not_exists(pk)",
    }

    def job() -> None:
        cloud("dynamodb").put_item(**item)
        with pytest.raises(ClientError):
            cloud("dynamodb").put_item(**item)

    assert len(deliver(job).calls) == 1
    failed = {"Failed": [{"Id": "1"}], "Successful": []}
    with patch("botocore.client.BaseClient._make_api_call", lambda self, operation, params: failed):
        tap = AwsTap()
        tap.attach(TrialGate(), {})
        assert not calls(cloud("sqs"), "SendMessageBatch", {"QueueUrl": QUEUE, "Entries": []})
        tap.detach()


@pytest.mark.parametrize(
    ("service", "operation", "first", "second"),
    [
        ("ec2", "RunInstances", {"ClientToken": "a"}, {"ClientToken": "b"}),
        (
            "dynamodb",
            "TransactWriteItems",
            {"ClientRequestToken": "a", "TransactItems": []},
            {"ClientRequestToken": "b", "TransactItems": []},
        ),
        (
            "sqs",
            "SendMessage",
            {"QueueUrl": QUEUE + ".fifo", "MessageDeduplicationId": "a"},
            {"QueueUrl": QUEUE + ".fifo", "MessageDeduplicationId": "b"},
        ),
        (
            "sqs",
            "SendMessageBatch",
            {"QueueUrl": QUEUE, "Entries": [{"Id": "1", "MessageDeduplicationId": "a"}]},
            {"QueueUrl": QUEUE, "Entries": [{"Id": "1", "MessageDeduplicationId": "b"}]},
        ),
        (
            "sqs",
            "SendMessage",
            {"QueueUrl": QUEUE + ".fifo", "MessageBody": "a"},
            {"QueueUrl": QUEUE + ".fifo", "MessageBody": "b"},
        ),
        ("stepfunctions", "StartExecution", {"name": "a"}, {"name": "b"}),
        ("s3", "PutObject", {"Bucket": "b", "Key": "a", "Body": b"x"}, {"Bucket": "b", "Key": "b"}),
        ("s3", "DeleteObject", {"Bucket": "b", "Key": "a"}, {"Bucket": "b", "Key": "b"}),
        ("s3", "CopyObject", {"Bucket": "b", "Key": "a"}, {"Bucket": "b", "Key": "b"}),
        ("sns", "TagResource", {"ResourceArn": "a"}, {"ResourceArn": "b"}),
        (
            "dynamodb",
            "PutItem",
            {"TableName": "t", "Item": {"pk": "a", "at": 1}},
            {"TableName": "t", "Item": {"pk": "b", "at": 1}},
        ),
        (
            "dynamodb",
            "UpdateItem",
            {"TableName": "t", "Key": {"pk": "a"}, "UpdateExpression": "SET n = :n"},
            {"TableName": "t", "Key": {"pk": "b"}, "UpdateExpression": "SET n = :n"},
        ),
        (
            "dynamodb",
            "BatchWriteItem",
            {"RequestItems": {"t": [{"PutRequest": {"Item": {"pk": "a"}}}]}},
            {"RequestItems": {"t": [{"DeleteRequest": {"Key": {"pk": "b"}}}]}},
        ),
    ],
)
def test_calls_are_one_by_a_key_or_by_what_they_are_about(
    service: str,
    operation: str,
    first: dict[str, Any],
    second: dict[str, Any],
    yes: None,
    taps: None,
    client: Callable[[str], Any],
) -> None:
    assert one(client(service), operation, first, first)
    assert not one(client(service), operation, first, second)


def test_what_a_put_says_is_compared(yes: None, taps: None, client: Callable[[str], Any]) -> None:
    """Goal: another content is another call. Method: bodies as bytes, files and text; items with another time."""
    put = {"Bucket": "b", "Key": "k"}
    bodies = [b"\xff\x00", b"\xff\x01", io.BytesIO(b"\xff\x00"), io.BytesIO(b"\xff\x01")]
    facts = calls(client("s3"), "PutObject", *({**put, "Body": body} for body in bodies))
    assert len({fact.once for fact in facts}) == 1
    told = [fact.fields["Body"] for fact in facts]
    assert told[0].startswith("<2 bytes, sha256 ")
    assert told[:2] == told[2:]
    assert told[0] != told[1]
    assert not any(isinstance(value, bytes) for value in told)


@pytest.mark.parametrize(
    ("service", "operation", "params"),
    [
        ("sqs", "SendMessage", {"QueueUrl": QUEUE, "MessageBody": "x"}),
        ("ses", "SendEmail", {"Source": "a@example.org"}),
        ("sns", "Publish", {"TopicArn": "arn:aws:sns:us-east-1:1:orders", "Message": "x"}),
        ("kinesis", "PutRecord", {"StreamName": "s", "Data": b"x", "PartitionKey": "p"}),
        ("events", "PutEvents", {"Entries": [{"Source": "shop", "Detail": "{}"}]}),
        ("stepfunctions", "StartExecution", {"stateMachineArn": "arn:a"}),
        ("dynamodb", "UpdateItem", {"TableName": "t", "Key": {"pk": "a"}, "UpdateExpression": "ADD n :one"}),
        (
            "dynamodb",
            "UpdateItem",
            {"TableName": "t", "Key": {"request_id": "a"}, "UpdateExpression": "SET n = n + :one"},
        ),
        (
            "dynamodb",
            "UpdateItem",
            {"TableName": "t", "Key": {"pk": "a"}, "UpdateExpression": "SET l = list_append(l, :x)"},
        ),
        (
            "dynamodb",
            "TransactWriteItems",
            {"TransactItems": [{"Update": {"TableName": "t", "UpdateExpression": "ADD n :one"}}]},
        ),
        # Only the first message of a batch has a key.
        (
            "sqs",
            "SendMessageBatch",
            {"QueueUrl": QUEUE, "Entries": [{"Id": "1", "MessageDeduplicationId": "a"}, {"Id": "2"}]},
        ),
    ],
)
def test_what_adds_is_done_again(
    service: str,
    operation: str,
    params: dict[str, Any],
    yes: None,
    taps: None,
    client: Callable[[str], Any],
) -> None:
    assert not one(client(service), operation, params, params)


def test_parameters_that_botocore_refuses_are_botocores_to_refuse(
    taps: None, client: Callable[[str], Any]
) -> None:
    """Goal: the tap raises nothing of its own. Method: parameters of another shape."""
    for operation, params in (
        ("BatchWriteItem", {"RequestItems": "users"}),
        ("TransactWriteItems", {"TransactItems": [{"Insert": {}}]}),
        ("UpdateItem", {"Key": 7}),
    ):
        result = deliver(
            lambda operation=operation, params=params: client("dynamodb")._make_api_call(operation, params)
        )
        assert type(result.job_errors[0]).__module__.startswith(("botocore.", "jmespath."))
        assert not result.calls


def test_a_token_that_botocore_makes_up_unites_nothing(taps: None, client: Callable[[str], Any]) -> None:
    """Goal: an id of botocore's own is no key. Method: a Stubber, as botocore fills the parameters in."""
    from botocore.stub import Stubber

    secrets = client("secretsmanager")

    def job() -> None:
        for _ in range(2):
            secrets.create_secret(Name="db", SecretString="hunter2")

    with Stubber(secrets) as stubber:
        for _ in range(2):
            stubber.add_response("create_secret", {"Name": "db"})
        result = deliver(job)
    assert [call.once for call in result.calls] == [None, None]
    assert result.calls[0].fields == {"Name": "db", "SecretString": "***"}
    assert "hunter2" not in str(result)


def test_streams_are_left_as_they_were(cloud: Callable[[str], Any], taps: None) -> None:
    """Goal: the tap takes nothing from the job. Method: a stream in its middle, and one that cannot go back."""
    s3 = cloud("s3")
    body = io.BytesIO(b"0123456789")
    body.seek(3)
    (call,) = calls(s3, "PutObject", {"Bucket": "invoices", "Key": "k", "Body": body})
    assert s3.get_object(Bucket="invoices", Key="k")["Body"].read() == b"3456789"
    assert call.fields["Body"].startswith("<7 bytes")

    class Once(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("read by the tap")

    with patch("botocore.client.BaseClient._make_api_call", lambda self, operation, params: {}):
        tap = AwsTap()
        tap.attach(TrialGate(), {})
        (call,) = calls(s3, "PutObject", {"Bucket": "invoices", "Key": "k", "Body": Once()})
        tap.detach()
    assert call.once is None
    assert call.fields["Body"].startswith("<")


def test_conditions_of_boto3_are_told(cloud: Callable[[str], Any], taps: None) -> None:
    from boto3.dynamodb.conditions import Attr

    table = boto3.resource("dynamodb", **KEYS).Table("users")
    (call,) = deliver(
        lambda: table.put_item(
            Item={"pk": "7", "tags": {"b", "a"}}, ConditionExpression=Attr("pk").not_exists()
        )
    ).calls
    assert call.fields["ConditionExpression"] == ["attribute_not_exists", "pk"]
    assert call.fields["Item"] == {"pk": "7", "tags": ["a", "b"]}


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 9 << 20])
def test_an_upload_counts_once(size: int, cloud: Callable[[str], Any], tmp_path: Path) -> None:
    """Goal: threads and parts of a transfer are one call. Method: a file in one piece and one in two, again; and under new names."""
    path = tmp_path / "invoice.pdf"
    path.write_bytes(b"x" * size)

    def store(key: str) -> None:
        cloud("s3").upload_file(str(path), "invoices", key)

    def store_anew() -> None:
        cloud("s3").upload_file(str(path), "invoices", f"{uuid.uuid4()}.pdf")

    twice = Plan.parse("v1:x2")
    assert check(lambda: store("7.pdf"), job=store, plan=twice).verdict == "holds"
    if size < 1000:
        (finding,) = check(store_anew, job=store_anew, plan=twice).findings
        assert finding.code == "IDM105"
        assert "2 calls instead of 1" in finding.summary


@pytest.mark.slow
def test_a_kill_within_an_upload_ends_it(cloud: Callable[[str], Any], tmp_path: Path) -> None:
    """Goal: nobody waits for a part that a dead execution would have sent. Method: kill it there."""
    path = tmp_path / "invoice.pdf"
    path.write_bytes(b"x" * (9 << 20))

    def store(key: str) -> None:
        cloud("s3").upload_file(str(path), "invoices", key)

    plan = Plan.parse("v1:x1:call=1:kill+aws.s3.UploadPart#1@1.1")
    report = check(lambda: store("7.pdf"), job=store, plan=plan, timeout=5)
    assert report.verdict == "holds", [finding.summary for finding in report.findings]


@pytest.mark.slow
def test_moto_goes_back_at_each_trial(cloud: Callable[[str], Any]) -> None:
    """Goal: a look before the put finds in each trial what the first one found. Method: a whole search."""
    dynamodb = cloud("dynamodb")
    dynamodb.put_item(TableName="users", Item={"pk": {"S": "before"}})

    def add(user: str) -> None:
        key = {"pk": {"S": user}}
        if "Item" not in dynamodb.get_item(TableName="users", Key=key):
            dynamodb.put_item(TableName="users", Item=key)

    report = check(lambda: add("7"), job=add)
    assert report.verdict == "holds", report.notes
    assert {item["pk"]["S"] for item in dynamodb.scan(TableName="users")["Items"]} == {"before"}


@pytest.mark.slow
def test_a_stubber_begins_anew_at_each_trial(client: Callable[[str], Any]) -> None:
    """Goal: answers that a fixture has prepared are there in each trial. Method: as many as two deliveries need."""
    from botocore.stub import Stubber

    def send(body: str) -> None:
        client("sqs").send_message(QueueUrl=QUEUE, MessageBody=body)

    with Stubber(client("sqs")) as stubber:
        for _ in range(2):
            stubber.add_response("send_message", {"MessageId": "1"})
        report = check(lambda: send("x"), job=send, plan=Plan.parse("v1:x2"))
    (finding,) = report.findings
    assert finding.code == "IDM105"
    assert not report.notes


@pytest.mark.parametrize(
    ("operation", "params", "violated"),
    [
        ("GetItem", {"TableName": "users"}, False),
        ("PutItem", {"TableName": "users", "Item": {"pk": "7"}}, False),
        ("SendMessage", {"QueueUrl": QUEUE}, True),
    ],
)
def test_a_mock_in_the_doors_place_counts_as_it_would(
    operation: str, params: dict[str, Any], violated: bool, client: Callable[[str], Any]
) -> None:
    """Goal: what a Mock answers is judged by what is asked. Method: the usual patch of the door."""

    def ask() -> None:
        client("sqs")._make_api_call(operation, params)

    with patch("botocore.client.BaseClient._make_api_call", return_value={}):
        report = check(ask, job=ask, plan=Plan.parse("v1:x2"))
    assert [finding.code for finding in report.findings] == (["IDM108"] if violated else [])


@pytest.mark.parametrize("target", ["requests.Session.send", "smtplib.SMTP.sendmail"])
def test_a_mock_in_a_doors_place_is_left_alone(target: str) -> None:
    """Goal: no search hangs on it, as a Mock has whatever attribute it is asked for. Method: patch and search."""
    from idemfuzz.adapters.mail import MailTap

    pytest.importorskip("requests")
    with patch(target) as mock:
        for tap in (HttpTap(), MailTap(), AwsTap()):
            tap.attach(TrialGate(), {})
            tap.detach()
        module, cls, name = target.split(".")
        assert vars(getattr(sys.modules[module], cls))[name] is mock


@pytest.mark.slow
def test_nothing_is_imported_and_a_late_import_is_tapped() -> None:
    program = """
import sys
from idemfuzz.adapters.aws import AwsTap
from idemfuzz.engine import TrialGate
tap = AwsTap()
tap.attach(TrialGate(), {})
tap.reset()
assert "botocore" not in sys.modules
import botocore.client
assert hasattr(botocore.client.BaseClient._make_api_call, "_idemfuzz_wrapped")
tap.detach()
assert not hasattr(botocore.client.BaseClient._make_api_call, "_idemfuzz_wrapped")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
