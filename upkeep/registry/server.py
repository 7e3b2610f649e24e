"""What belongs to the object store's server, not to what it keeps: the bucket, its versioning and lifecycle.

Everything is asked for only where it is not so already: doing it twice changes nothing. A server that does not know
one of these (few but Amazon and MinIO know all) is said to, and does not stop the rest; keeping versions of objects
and removing old ones are conveniences, since the registry itself never overwrites.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from upkeep.errors import AccessError, InputError, OutsideError, UpkeepError, Where
from upkeep.spec.model import ObjectStore
from upkeep.store import endpoint_of, open_store, region_of

if TYPE_CHECKING:
    from minio import Minio

OWN = "upkeep-"
"""How the lifecycle rules that are ours are called; others are left alone."""
NONCURRENT_DAYS = 30
"""How long overwritten and deleted objects are kept."""
_UNKNOWN = {"NotImplemented", "MethodNotAllowed", "UnsupportedOperation", "VersioningNotConfigured", "NotSupported"}


def ensure_bucket(uri: str, object_store: ObjectStore = ObjectStore()) -> tuple[str, ...]:  # noqa: B008
    """Make the store ready: a folder, or a bucket with versioning and lifecycle; what was done, a sentence each.

    Raises :class:`AccessError`, :class:`OutsideError` when the server is away, :class:`InputError` for a name that
    cannot be.
    """
    if not uri.startswith("s3://"):
        store = open_store(uri, object_store)
        return (f"the folder {store.uri} is ready",)
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    endpoint = endpoint_of(object_store)
    server = _Server(bucket, uri, endpoint or "https://s3.amazonaws.com", region_of(object_store))
    root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    return server.make(), server.keep_versions(), server.clean_up(root)


class _Server:
    """One bucket, through the minio client."""

    def __init__(self, bucket: str, uri: str, endpoint: str, region: str) -> None:
        self.bucket, self.uri, self.endpoint, self.region = bucket, uri, endpoint, region
        self.client = self._client()

    def _client(self) -> Minio:
        import urllib3
        from minio import Minio
        from minio.credentials import ChainedProvider, EnvAWSProvider, IamAwsProvider
        from minio.helpers import check_bucket_name

        parts = urlsplit(self.endpoint)
        if parts.path not in ("", "/"):
            raise InputError(
                f"the S3 endpoint {self.endpoint} has a path",
                where=Where(field="object_store.endpoint"),
                fix="name only the server: http://host:port",
            )
        given = os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY")
        if not given and not self.endpoint.endswith("amazonaws.com"):
            raise AccessError(
                f"no credentials for {self.endpoint}",
                where=Where(file=self.uri),
                fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=2.0, read=30.0),
            retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504)),
        )
        try:
            check_bucket_name(self.bucket, True)
        except ValueError as error:
            raise InputError(
                str(error), where=Where(file=self.uri), fix="use 3 to 63 lower-case letters, digits and hyphens"
            ) from error
        try:
            return Minio(
                parts.netloc,
                secure=parts.scheme == "https",
                region=self.region,
                credentials=ChainedProvider([EnvAWSProvider()] if given else [IamAwsProvider()]),
                http_client=http,
            )
        except ValueError as error:
            raise InputError(
                str(error), where=Where(field="object_store.endpoint"), fix="correct the endpoint"
            ) from error

    def make(self) -> str:
        def make() -> str:
            if self.client.bucket_exists(self.bucket):
                return f"the bucket {self.bucket} was there already"
            from minio.error import S3Error

            try:
                self.client.make_bucket(self.bucket, location=self.region)
            except S3Error as error:
                if error.code != "BucketAlreadyOwnedByYou":
                    raise
                return f"the bucket {self.bucket} was there already"
            return f"made the bucket {self.bucket}"

        return self._ask(make)

    def keep_versions(self) -> str:
        from minio.versioningconfig import ENABLED, VersioningConfig

        def keep() -> str:
            if self.client.get_bucket_versioning(self.bucket).status == ENABLED:
                return "versions of objects are kept"
            self.client.set_bucket_versioning(self.bucket, VersioningConfig(ENABLED))
            return "versions of objects are kept from now on"

        return self._ask(keep, "keeps no versions of objects")

    def clean_up(self, root: str) -> str:
        from minio.commonconfig import ENABLED, Filter
        from minio.lifecycleconfig import (
            AbortIncompleteMultipartUpload,
            LifecycleConfig,
            NoncurrentVersionExpiration,
            Rule,
        )

        rule = Rule(
            ENABLED,
            rule_filter=Filter(prefix=root),
            rule_id=f"{OWN}old{_slug(root)}",
            noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=NONCURRENT_DAYS),
            abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=7),
        )

        def clean() -> str:
            now = self.client.get_bucket_lifecycle(self.bucket)
            there = list(now.rules) if now else []
            others = [each for each in there if each.rule_id != rule.rule_id]
            if [_facts(each) for each in there if each.rule_id == rule.rule_id] != [_facts(rule)]:
                self.client.set_bucket_lifecycle(self.bucket, LifecycleConfig([*others, rule]))
            return f"overwritten and deleted objects go after {NONCURRENT_DAYS} days"

        return self._ask(clean, "removes nothing by age")

    def _ask(self, question: Callable[[], str], without: str = "") -> str:
        """Ask the server; ``without`` says what follows where it does not know such a thing."""
        import urllib3
        from minio.error import MinioException, S3Error, ServerError

        try:
            return question()
        except S3Error as error:
            if without and error.code in _UNKNOWN:
                return f"this server {without}: it does not know how ({error.code})"
            raise self._refused(error) from error
        except ServerError as error:
            if without and error.status_code in (405, 501):
                return f"this server {without}: it does not know how (status {error.status_code})"
            raise self._away(str(error)) from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise self._away(str(error)) from error

    def _refused(self, error: Any) -> UpkeepError:
        status = getattr(error.response, "status", None)
        where = Where(file=self.uri)
        said = f"{error.code}: {error.message}"
        if error.code == "BucketAlreadyExists":
            fix = "choose another name"
            return InputError(f"the bucket {self.bucket} belongs to somebody else", where=where, fix=fix)
        if error.code in ("InvalidBucketName", "IllegalLocationConstraintException", "AuthorizationHeaderMalformed"):
            return InputError(f"{self.endpoint} refused the bucket ({said})", where=where, fix="correct name or region")
        if status in (401, 403) or "UserNotFound" in str(error.code):
            return AccessError(
                f"{self.endpoint} refused the credentials, or they do not allow this ({said})",
                where=where,
                fix="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ask who runs the server to make the bucket",
            )
        return OutsideError(f"{self.endpoint} failed ({said})", where=where, fix="look at the server, then try again")

    def _away(self, text: str) -> OutsideError:
        reason = text.splitlines()[0] if text else "no reason given"
        return OutsideError(
            f"{self.endpoint} cannot be reached, or is no S3 server: {reason}",
            where=Where(file=self.uri),
            fix="check the endpoint (object_store.endpoint, AWS_ENDPOINT_URL) and the network, then try again",
        )


def _slug(prefix: str) -> str:
    return "".join(f"-{part}" for part in prefix.split("/") if part)


def _facts(rule: Any) -> tuple[Any, ...]:
    """What a lifecycle rule says, to compare."""
    old, parts, expire = (
        rule.noncurrent_version_expiration,
        rule.abort_incomplete_multipart_upload,
        rule.expiration,
    )
    return (
        rule.status,
        (rule.rule_filter.prefix if rule.rule_filter else None) or "",
        old.noncurrent_days if old else None,
        parts.days_after_initiation if parts else None,
        expire.days if expire else None,
    )
