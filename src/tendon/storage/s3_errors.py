"""What went wrong between us and S3: one kind per cause, four lines per kind. Called by s3.py only.

No message carries a key, a token or the text of a response: only error codes, the bucket and the endpoint without
user information.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any
from urllib.parse import urlsplit

from tendon.errors import DataError, StorageError, TendonError

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class Trouble(Enum):
    """Why a request failed."""

    TRANSIENT = auto()  # may pass when tried again
    UNREACHABLE = auto()
    SILENT = auto()  # a connection, and then no answer
    DAMAGED = auto()  # bytes arrived that are not the object's
    NOT_THERE = auto()  # a HEAD answered 404
    NO_OBJECT = auto()
    NO_BUCKET = auto()
    BAD_RANGE = auto()
    REFUTED = auto()  # the condition of a put did not hold
    WRONG_CREDENTIALS = auto()
    DENIED = auto()
    NO_CREDENTIALS = auto()
    FULL = auto()
    TLS = auto()
    BAD_NAME = auto()
    UNSUPPORTED = auto()
    REFUSED = auto()  # some other answer than success
    UNKNOWN = auto()  # no trouble with S3: a bug


BY_CODE = {
    Trouble.NOT_THERE: ("404", "NotFound"),
    Trouble.NO_OBJECT: ("NoSuchKey",),
    Trouble.NO_BUCKET: ("NoSuchBucket",),
    Trouble.BAD_RANGE: ("InvalidRange", "416"),
    Trouble.REFUTED: ("PreconditionFailed", "412"),
    Trouble.WRONG_CREDENTIALS: (
        "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
        "ExpiredTokenException", "AuthorizationHeaderMalformed", "InvalidSecurity", "RequestTimeTooSkewed", "401",
    ),
    Trouble.DENIED: ("AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem"),
    Trouble.FULL: (
        "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "507",
    ),
    Trouble.BAD_NAME: ("InvalidBucketName",),
    Trouble.TRANSIENT: (
        "SlowDown", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestTimeout",
        "RequestLimitExceeded", "ConditionalRequestConflict", "OperationAborted", "BandwidthLimitExceeded", "429",
        "BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest", "IncompleteBody",
    ),
    Trouble.UNSUPPORTED: ("NotImplemented", "501"),
}  # fmt: skip


class Damaged(Exception):  # noqa: N818
    """The bytes of an answer do not have the checksum that the store names."""


BAD_CHECKSUM = ("BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest", "ChecksumMismatch")
KIND_OF_CODE = {code: kind for kind, codes in BY_CODE.items() for code in codes}


def trouble(error: BaseException) -> Trouble:
    """The kind of a failed request."""
    from botocore import exceptions as b

    if isinstance(error, b.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in KIND_OF_CODE or str(status) in KIND_OF_CODE:
            return KIND_OF_CODE.get(code) or KIND_OF_CODE[str(status)]
        return Trouble.TRANSIENT if status >= 500 else Trouble.REFUSED
    for classes, kind in _by_class(b):
        if isinstance(error, classes):
            return kind
    return Trouble.UNKNOWN


def is_bad_checksum(error: BaseException) -> bool:
    """Whether the store refused a put because its bytes do not have their checksum."""
    response = getattr(error, "response", None) or {}
    if str(response.get("Error", {}).get("Code", "")) in BAD_CHECKSUM:
        return True
    about = str(response.get("Error", {}).get("Message", "")).lower()
    return trouble(error) is Trouble.REFUSED and ("checksum" in about or "digest" in about or "crc32c" in about)


def _by_class(b: Any) -> tuple[tuple[tuple[type, ...], Trouble], ...]:
    import urllib3.exceptions as u

    return (
        ((b.NoCredentialsError, b.PartialCredentialsError, b.CredentialRetrievalError), Trouble.NO_CREDENTIALS),
        ((b.SSLError,), Trouble.TLS),
        ((b.EndpointConnectionError, b.ConnectTimeoutError, b.ProxyConnectionError), Trouble.UNREACHABLE),
        ((b.ParamValidationError,), Trouble.BAD_NAME),
        ((b.ReadTimeoutError, u.ReadTimeoutError), Trouble.SILENT),
        ((Damaged, b.FlexibleChecksumError), Trouble.DAMAGED),
        ((b.HTTPClientError, b.IncompleteReadError, b.ResponseStreamingError, u.HTTPError), Trouble.TRANSIENT),
    )


def explain(kind: Trouble, error: Exception, where: str, endpoint: str) -> TendonError:
    """Four lines for a failed request."""
    at = masked(endpoint)
    said = _said(error)
    if kind is Trouble.NO_OBJECT:
        return DataError(
            "an object does not exist",
            where=f"{where} at {at}",
            why="nothing was ever written there, or it was deleted",
            fix="check the address, or run the step that makes it",
        )
    what, why, fix = {
        Trouble.UNREACHABLE: (
            "the S3 endpoint cannot be reached",
            f"no connection to {at} within the time limit ({type(error).__name__})",
            "check that it runs and that this machine may reach it; AWS_ENDPOINT_URL names it (unset it to use AWS)",
        ),
        Trouble.SILENT: (
            "the S3 endpoint does not answer",
            f"{at} takes connections and then stays silent ({type(error).__name__})",
            "check that it is an S3 service and is not overloaded, then run the same command again",
        ),
        Trouble.DAMAGED: (
            "a stored object arrives damaged",
            f"{at} sent bytes that do not have the object's own checksum, several times",
            "the store or the network is broken: verify with `tendon inspect --verify`, then make the object again",
        ),
        Trouble.NO_BUCKET: (
            "the S3 bucket does not exist",
            f"{at} answered {said}",
            "create the bucket, or correct its name in the address",
        ),
        Trouble.WRONG_CREDENTIALS: (
            "the S3 credentials are wrong or have expired",
            f"{at} answered {said}",
            f"set {CREDENTIALS} (or AWS_PROFILE) to a pair that belongs to this endpoint, and check the clock",
        ),
        Trouble.DENIED: (
            "the S3 credentials may not do this",
            f"{at} answered {said}: they lack the permission, or the endpoint hides that they are wrong",
            "grant s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on this bucket and prefix",
        ),
        Trouble.NO_CREDENTIALS: (
            "no S3 credentials were found",
            f"no environment variables, profile or instance role offer any ({type(error).__name__})",
            f"set {CREDENTIALS}, or AWS_PROFILE; on a cluster put them into the secret tendon-store, or leave data_store_uri "
            "empty: the pipeline root's bucket is reached with the install's secret mlpipeline-minio-artifact",
        ),
        Trouble.FULL: (
            "the S3 store is full",
            f"{at} answered {said}",
            "delete old runs or raise the quota, then run the same command again",
        ),
        Trouble.TLS: (
            "the S3 endpoint's certificate is not trusted",
            f"TLS to {at} failed ({type(error).__name__})",
            "set AWS_CA_BUNDLE to the certificate of its authority, or use an http:// endpoint inside the cluster",
        ),
        Trouble.BAD_NAME: (
            "the S3 address is not valid",
            "its bucket or key has a form that S3 does not allow",
            "write s3://bucket/prefix with a bucket of 3 to 63 lower-case letters, digits and dashes",
        ),
        Trouble.NOT_THERE: (
            "the S3 endpoint does not know this address",
            f"{at} answered {said}: there is no such bucket, or it is not an S3 service",
            "check AWS_ENDPOINT_URL and the bucket",
        ),
        Trouble.REFUSED: (
            "the S3 store refuses a request",
            f"{at} answered {said}",
            "look the code up in the store's manual or log; the bucket's policy, region and name are the usual causes",
        ),
        Trouble.UNSUPPORTED: (
            "the S3 store lacks conditional puts",
            f"{at} answered {said} to If-Match or If-None-Match",
            "use a store that has them (AWS, MinIO, Ceph, R2), or a folder that all pods mount",
        ),
    }.get(
        kind,
        (
            "the S3 store keeps failing",
            f"{at} still answered {said} after several tries",
            "run the same command again later: finished work is kept",
        ),
    )
    return StorageError(what, where=f"{where} at {at}", why=why, fix=fix)


def explain_no_client(error: Exception, where: str) -> TendonError:
    """Four lines for a boto3 that cannot even start: unknown profile, malformed endpoint."""
    from botocore.exceptions import ProfileNotFound

    said = str(error) if isinstance(error, ProfileNotFound) else type(error).__name__
    return StorageError(
        "the S3 client cannot be set up",
        where=where,
        why=f"the AWS profile, region or endpoint in the environment is not usable: {said}",
        fix="check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL (a URL such as http://minio:9000)",
    )


def masked(endpoint: str) -> str:
    """The endpoint without user information or query."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _said(error: Exception) -> str:
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return type(error).__name__
    code = response.get("Error", {}).get("Code", "?")
    return f"{code} (HTTP {response.get('ResponseMetadata', {}).get('HTTPStatusCode', '?')})"
